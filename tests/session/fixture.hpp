// SPDX-License-Identifier: Apache-2.0
// A model of random weights, two adapters for it and an input: what tests of sessions and guards share.
#pragma once

#include "support/files.hpp"
#include "support/nets.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/tenon.hpp>

#include <cmath>
#include <cstring>

namespace tenon::test {

[[nodiscard]] inline Tensor ramp(std::vector<std::int64_t> shape) {
  Tensor x(std::move(shape));
  for (std::size_t i = 0; i < x.values().size(); ++i)
    x.values()[i] = static_cast<float>((i * 29) % 41) / 41.0f - 0.5f;
  return x;
}

/// Largest difference relative to the largest reference value.
[[nodiscard]] inline double relative_error(std::span<const float> got, std::span<const float> reference) {
  double error = 0;
  double largest = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    error = std::max(error, std::abs(static_cast<double>(got[i]) - static_cast<double>(reference[i])));
    largest = std::max(largest, std::abs(static_cast<double>(reference[i])));
  }
  return error / largest;
}

/// FNV-1a over all bytes of a model's checkpoint.
[[nodiscard]] inline std::uint64_t bytes_hash(const Checkpoint& checkpoint) {
  std::uint64_t hash = 14695981039346656037u;
  for (const SafetensorsFile& file : checkpoint.files())
    for (const std::byte b : file.contents()) hash = (hash ^ std::to_integer<unsigned>(b)) * 1099511628211u;
  return hash;
}

/// Whether two models' weights have the same bytes.
[[nodiscard]] inline bool same_bytes(std::span<const TensorView> a, std::span<const TensorView> b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(a[i].data, b[i].data, static_cast<std::size_t>(b[i].bytes())) != 0) return false;
  return true;
}

/// `f(mode)` for each.
template <class F>
void in_each_mode(F f) {
  f(side_path{});
  f(merged{});
  f(in_place{});
}

inline constexpr Config on_device{.memory = device};

/// The bytes that a slot computes with now.
template <class Net, Config C>
[[nodiscard]] std::vector<std::byte> slot_bytes(const Session<Net, C>& session, std::int32_t slot) {
  const TensorView& view = session.slot_weight(slot);
  return {view.data, view.data + view.bytes()};
}

template <class Net>
struct Fixture {
  TemporaryFolder folder{};
  Ledger ledger;
  Model<Net> model;
  Adapter<Net> tone;
  Adapter<Net> other;

  explicit Fixture(DType dtype = DType::f32, const MemorySource& source = system_memory())
      : ledger(source), model((write_checkpoint<Net>(folder.file("model.safetensors"), 1, dtype),
                               open<Net>(folder.file("model.safetensors"), {.ledger = &ledger}))),
        tone(load_adapter<Net>(write_adapter<Net>(folder.file("tone"), 4, 8, 2), {.ledger = &ledger})),
        other(load_adapter<Net>(write_adapter<Net>(folder.file("other"), 3, 3, 3), {.ledger = &ledger})) {}
};

} // namespace tenon::test
