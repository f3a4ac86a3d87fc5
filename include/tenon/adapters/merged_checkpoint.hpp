// SPDX-License-Identifier: Apache-2.0
// A checkpoint with adapters merged into it, written as a stream: sharded as the input is, every weight merged from
// the pristine one in rows, rounded once, everything else copied as it lies. Cost: one read and one write of the
// checkpoint; memory for a buffer of rows, the scratch of one merge and the gains of one weight, all in the ledger.
// One thread.
#pragma once

#include <tenon/adapters/merged_weight.hpp>
#include <tenon/adapters/prepared.hpp>
#include <tenon/adapters/targets.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/weights/checkpoint_copy.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace tenon {

/// Merges adapters that were bound to the targets of a checkpoint into its tensors.
class MergeEdit final : public CheckpointEdit {
 public:
  /// `targets` are `targets_of(checkpoint)` and, as the adapters, outlive the edit. Throws `error{unsupported}` for
  /// a change that the checkpoint has no place for, `error{wrong_dtype}` for a weight that no merge can write.
  MergeEdit(const AdapterTargets& targets, std::span<const AdapterAt> adapters, Ledger& ledger)
      : targets_(targets), adapters_(adapters), ledger_(ledger) {
    for (const AdapterAt& adapter : adapters) {
      for (const SlotFactors& factors : adapter.data->factors) enter_weight(factors.slot);
      for (const SlotDelta& delta : adapter.data->deltas) enter_weight(delta.slot);
      for (const SlotBias& bias : adapter.data->biases) {
        if (bias.of_weight != nullptr) check_dtype(targets.at(bias.slot).weight);
        enter_bias(bias.slot);
      }
    }
  }

  [[nodiscard]] bool changes(const CheckpointTensor& tensor) const override {
    return places_.contains(&tensor);
  }

  void rows(const CheckpointTensor& tensor, std::int64_t first, std::int64_t count, std::byte* out) override {
    const Place place = places_.at(&tensor);
    if (place.is_bias) return write_bias(place.slot, tensor.view, first, count, out);
    if (!weight_ || weight_slot_ != place.slot) {
      weight_.reset(); // its buffers before the next one's
      weight_.emplace(place.slot, flat_matrix(tensor.view), adapters_, ledger_);
      weight_slot_ = place.slot;
    }
    weight_->write_rows(first, count, out);
    if (first + count == tensor.view.extent(0)) weight_.reset();
  }

 private:
  struct Place {
    std::int32_t slot = 0;
    bool is_bias = false;
  };

  static void check_dtype(const CheckpointTensor* tensor) {
    if (!is_weight_dtype(tensor->view.dtype))
      throw error(ErrorCode::wrong_dtype,
                  concat(tensor->name, ": expected F32, F16 or BF16 to merge into, got ",
                         dtype_name(tensor->view.dtype)),
                  {.key = std::string(tensor->name)});
  }
  void enter(const CheckpointTensor* tensor, Place place) {
    check_dtype(tensor);
    places_.emplace(tensor, place);
  }
  void enter_weight(std::int32_t slot) { enter(targets_.at(slot).weight, {slot, false}); }
  void enter_bias(std::int32_t slot) {
    if (const CheckpointTensor* const bias = targets_.at(slot).bias_tensor) return enter(bias, {slot, true});
    throw error(ErrorCode::unsupported,
                concat(targets_.name(slot),
                       ": expected a bias in the checkpoint for the adapter's change of it, got none"),
                {.layer = targets_.name(slot)});
  }

  void write_bias(std::int32_t slot, const TensorView& view, std::int64_t first, std::int64_t count,
                  std::byte* out) {
    bias_.resize(static_cast<std::size_t>(view.size()));
    (void)merge_bias(slot, flat_matrix(targets_.at(slot).weight->view), flat_vector(view), adapters_, bias_,
                     ledger_);
    encode(view.dtype, bias_.data() + first, count, out);
  }

  const AdapterTargets& targets_;
  std::span<const AdapterAt> adapters_;
  Ledger& ledger_;
  std::unordered_map<const CheckpointTensor*, Place> places_{};
  std::optional<MergedWeight> weight_{}; // the one that is being written
  std::int32_t weight_slot_ = -1;
  std::vector<float> bias_{};
};

/// Writes `base` with the adapters merged to `to`; see `copy_checkpoint` for paths, progress and what is thrown.
[[nodiscard]] TENON_INLINE CheckpointCopied write_merged_checkpoint(
    const Checkpoint& base, const AdapterTargets& targets, std::span<const AdapterAt> adapters,
    const std::string& to, const CheckpointCopyOptions& options = {});

#if TENON_HAS_BODIES
TENON_INLINE CheckpointCopied write_merged_checkpoint(const Checkpoint& base, const AdapterTargets& targets,
                                                      std::span<const AdapterAt> adapters,
                                                      const std::string& to,
                                                      const CheckpointCopyOptions& options) {
  MergeEdit edit(targets, adapters, options.ledger != nullptr ? *options.ledger : process_ledger());
  return copy_checkpoint(base, to, edit, options);
}
#endif

} // namespace tenon
