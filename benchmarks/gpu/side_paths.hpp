// SPDX-License-Identifier: Apache-2.0
// What a side path adds to a Linear on a device: the step that a session runs, with an adapter in its slot and without,
// on rows that lie in device memory. The reference is the step without.
#pragma once

#include "merges.hpp"

namespace tenon::bench {

/// Linear [width, width] without bias over x [rows, width], for one weight of several.
class LinearStep {
 public:
  LinearStep(Bench& bench, std::int64_t rows, std::int64_t width)
      : lane_(bench.lane()), functions_(bench.gpu().functions("Linear")), x_(bench.bytes(rows * width * 4)),
        y_(bench.bytes(rows * width * 4)), scale_(bench.bytes(device_alignment)),
        fault_(bench.bytes(device_alignment)), width_(width),
        wires_{WireView{x_.data(), f32, 2, {rows, width}}, WireView{y_.data(), f32, 2, {rows, width}}} {
    std::vector<float> x(static_cast<std::size_t>(rows * width));
    std::mt19937 random(3);
    for (float& value : x) value = std::normal_distribution<float>()(random);
    lane_.upload(x_.data(), std::as_bytes(std::span(x)));
    const float one = 1.0f;
    lane_.upload(scale_.data(), std::as_bytes(std::span(&one, 1)));
    lane_.clear(fault_.data(), fault_.bytes());
    const ActiveSlot none{};
    scratch_ = bench.bytes(functions_.scratch(context({}, none)));
  }

  /// As a session calls it: the list's node on the host, what it views on the device, the scale too.
  void run(const kernels::WeightMatrix& weight, const kernels::LowRankTerm* term) {
    ActiveSlot slot;
    slot.weight = slot.base = TensorView(weight.data, bf16, std::array{width_, width_});
    SideTerm side;
    if (term != nullptr) {
      side.term = *term;
      side.term.scale_at = reinterpret_cast<const float*>(scale_.data());
      slot.terms.add(side);
    }
    lane_.run(functions_.run, context(weight, slot),
              {scratch_.data(), static_cast<std::size_t>(scratch_.bytes())},
              reinterpret_cast<std::int32_t*>(fault_.data()));
  }

 private:
  [[nodiscard]] StepContext context(const kernels::WeightMatrix& weight, const ActiveSlot& slot) {
    weights_[0] = TensorView(weight.data, bf16, std::array{width_, width_});
    return {.inputs = {wires_.data(), 1}, .output = wires_[1], .weights = weights_, .slot = &slot};
  }

  DeviceLane& lane_;
  DeviceFunctions functions_;
  Buffer x_;
  Buffer y_;
  Buffer scale_;
  Buffer fault_;
  Buffer scratch_{};
  std::int64_t width_;
  std::array<WireView, 2> wires_;
  std::array<TensorView, 2> weights_{}; ///< W, and no bias
};

inline void side_rows(Bench& bench, std::int64_t width) {
  for (const std::int64_t rows : {64, 512}) {
    constexpr std::int64_t rank = 32;
    Weights weights(bench, width, width, rank, weights_in_turn);
    LinearStep step(bench, rows, width);
    const auto [base, with_side] = bench.in_turn([&](std::int64_t i) { step.run(weights.base(i), nullptr); },
                                                 [&](std::int64_t i) {
                                                   const kernels::LowRankTerm term = weights.term(i);
                                                   step.run(weights.base(i), &term);
                                                 });
    bench.table().add(
        {.key = concat("side.", rows),
         .what = concat("side path, ", rows, " rows, ", width, " x ", width, " bf16, r = ", rank),
         .value = (with_side - base) * 1e6,
         .unit = "us",
         .reference = base * 1e6,
         .reference_is = "the base product",
         .goal = rows == 512 ? ratio_at_most(0.04) : Goal{},
         .note =
             concat(static_cast<std::int64_t>(2e-12 * static_cast<double>(rows * width * width) / base + 0.5),
                    " TFLOP/s of the base product")});
  }
}

} // namespace tenon::bench
