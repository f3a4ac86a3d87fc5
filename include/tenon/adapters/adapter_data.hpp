// SPDX-License-Identifier: Apache-2.0
// An adapter as it lies in memory: the mapping of its file and, for each slot it changes, views of its tensors
// with their scale. Nothing is copied but what must be prepared (the ledger then shows it). It is immutable
// once loaded; handles and guards share it.
#pragma once

#include <tenon/adapters/report.hpp>
#include <tenon/graph/slot.hpp>
#include <tenon/kernels/bias_term.hpp>
#include <tenon/kernels/delta_term.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/rotation.hpp>
#include <tenon/kernels/weight_norms.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/weights/checkpoint.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace tenon {

/// `delta = scale * B A` for one slot; A [rank, in], B [out, rank]. B may belong to some rows of the weight only
/// (one projection of a fused weight), from `first_row` on; a slot may then have several.
struct SlotFactors {
  std::int32_t slot = 0; ///< index among the net's slots, loops expanded
  kernels::WeightMatrix a;
  kernels::WeightMatrix b;
  double scale = 1;
  std::int64_t first_row = 0;
  const float* row_gain = nullptr;  ///< VeRA: B's rows are multiplied by these, or null
  const float* rank_gain = nullptr; ///< VeRA: A's rows
};

/// What the strength of an attach does to a weight-decomposed adapter (DoRA); at 1 all are the same.
using DoraStrength = kernels::DoraPolicy;

/// What gains are made of when an adapter is attached.
enum class GainSource : std::uint8_t {
  none,
  magnitude, ///< DoRA's m: gains follow from the weight's norms
  factor,    ///< PEFT's IA3: the weight is multiplied by it
  change,    ///< one less: LyCORIS's IA3, a vector of PEFT's GLoRA
  replace,   ///< no vector: the weight gives way to the stored one
};

/// Any other change of a slot's weight.
struct SlotDelta {
  std::int32_t slot = 0;
  AdapterKind kind = AdapterKind::lora;
  kernels::DeltaTerm term{}; ///< its scale, gains and strength are set when it is attached
  double scale = 1;          ///< of the factors, for strength 1
  GainSource gains = GainSource::none;
  kernels::WeightVector vector{}; ///< m, IA3's, GLoRA's
  DoraStrength dora_strength = DoraStrength::peft;
  /// Of the weight, that share one number: a kernel's positions; all rows, where one number is for the whole
  std::int64_t columns_per_gain = 1;

  /// Floats of gains for a weight [rows, cols].
  [[nodiscard]] std::int64_t gain_count(std::int64_t rows, std::int64_t cols) const noexcept {
    if (gains == GainSource::none) return 0;
    if (term.gain_axis == kernels::GainAxis::cols) return cols;
    return term.rows != 0 ? term.rows : rows;
  }
};

/// A change of a slot's bias, from `first_row` on.
struct SlotBias {
  std::int32_t slot = 0;
  kernels::WeightVector values{};
  double scale = 1;
  kernels::BiasAction action = kernels::BiasAction::add;
  std::int64_t first_row = 0;
  /// c [in]: the values are W c for `rows` rows of the pristine weight, made when it is attached; or null
  const float* of_weight = nullptr;
  std::int64_t rows = 0;

  /// Floats that are made.
  [[nodiscard]] std::int64_t made_count() const noexcept { return of_weight == nullptr ? 0 : rows; }
};

struct AdapterData {
  Checkpoint file;
  std::vector<SlotFactors> factors{}; ///< by ascending slot
  std::vector<SlotDelta> deltas{};    ///< by ascending slot
  std::vector<SlotBias> biases{};     ///< by ascending slot
  std::vector<Buffer> prepared{};     ///< what the others view beside the file
  std::vector<std::unique_ptr<kernels::Rotation>> rotations{};
  AdapterReport report{};

  /// Of the file's mapping and of what was prepared, as they stand in the ledger.
  [[nodiscard]] std::int64_t bytes() const noexcept {
    std::int64_t sum = file.bytes();
    for (const Buffer& buffer : prepared) sum += buffer.bytes();
    return sum;
  }
};

} // namespace tenon
