// SPDX-License-Identifier: Apache-2.0
// A net of one layer with random weights, and its weights as doubles, for tests that compute the same by hand.
#pragma once

#include "support/files.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/tenon.hpp>

#include <cmath>
#include <vector>

namespace tenon::test {

template <class Net>
struct OneLayer {
  TemporaryFolder folder{};
  Ledger ledger{};
  Model<Net> model;
  Session<Net> session;

  explicit OneLayer(DType dtype = DType::f32)
      : model((write_checkpoint<Net>(folder.file("m.safetensors"), 7, dtype),
               open<Net>(folder.file("m.safetensors"), {.ledger = &ledger}))),
        session(model) {}

  /// Weight `i` of the net's table.
  [[nodiscard]] std::vector<double> weight(std::size_t i) const {
    const TensorView& view = model.weights()[i];
    std::vector<float> values(static_cast<std::size_t>(view.size()));
    decode(view.dtype, view.data, view.size(), values.data());
    return {values.begin(), values.end()};
  }
};

[[nodiscard]] inline Tensor wave(std::vector<std::int64_t> shape) {
  Tensor x(std::move(shape));
  for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] = std::sin(static_cast<float>(i) * 0.7f);
  return x;
}

/// Float results of a few dozen operations on numbers near 1.
inline constexpr double few_ulps = 4e-6;

} // namespace tenon::test
