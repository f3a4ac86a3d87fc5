// SPDX-License-Identifier: Apache-2.0
// One step as a session would call it, on the host and on a device: the same context, so that the two can be compared.
// Elsewhere than on CUDA device memory is the host's.
#pragma once

#include <tenon/gpu/step_table.hpp>
#include <tenon/weights/convert.hpp>

#include <support/naive.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace tenon::test {

/// No step here multiplies matrices.
struct NoProducts : gpu::Products {
  [[nodiscard]] std::int64_t scratch_bytes(std::int64_t, std::int64_t, std::int64_t,
                                           DType) const noexcept override {
    return 0;
  }
  void multiply(gpu::Queue&, kernels::ConstMatrix, const kernels::WeightMatrix&, kernels::Matrix, float,
                std::span<std::byte>) override {}
};

using Extents = std::initializer_list<std::int64_t>;

class StepCase {
 public:
  StepContext context{};
  std::int32_t fault = 0; ///< after `on_device`

  /// A wire of numbers in [-size, size), from a seed of its own.
  StepCase& input(Extents extents, float size = 1) {
    std::vector<float>& values = input_values_.emplace_back();
    const WireView view = wire(extents, DType::f32);
    Numbers numbers(++seed_);
    for (std::int64_t i = 0; i < view.size(); ++i) values.push_back(size * numbers.next());
    return add(view, values.data());
  }
  StepCase& input(Extents extents, std::vector<float> values) {
    return add(wire(extents, DType::f32), input_values_.emplace_back(std::move(values)).data());
  }
  StepCase& ids(Extents extents, std::vector<std::int32_t> values) {
    return add(wire(extents, DType::i32), input_ids_.emplace_back(std::move(values)).data());
  }
  /// A weight of numbers in [-1, 1).
  StepCase& weight(DType dtype, Extents extents) {
    weights_.push_back(stored(dtype, extents));
    context.weights = weights_;
    return *this;
  }
  /// A weight of no step: for slots and what is attached to them.
  TensorView stored(DType dtype, Extents extents) {
    TensorView view(nullptr, dtype, std::span<const std::int64_t>(extents.begin(), extents.size()));
    std::vector<std::uint32_t>& bytes = stored_.emplace_back(static_cast<std::size_t>(view.bytes() / 4 + 1));
    view.data = reinterpret_cast<const std::byte*>(bytes.data());
    Numbers numbers(++seed_);
    for (std::int64_t i = 0; i < view.size(); ++i) {
      const float value = numbers.next();
      encode(dtype, &value, 1, reinterpret_cast<std::byte*>(bytes.data()) + i * dtype_bytes(dtype));
    }
    return view;
  }
  StepCase& output(Extents extents) {
    output_ = wire(extents, DType::f32);
    return *this;
  }
  /// Calls write over this input from now on.
  StepCase& over(std::size_t input) {
    over_ = input;
    return *this;
  }

  [[nodiscard]] std::vector<float> on_host(StepFunction run) {
    std::vector<std::byte> room(1 << 20);
    StepContext call = prepared();
    call.workers = kernels::Workers(kernels::Scratch(room));
    run(call);
    return result(call);
  }
  /// With scratch of exactly the size that the step asks for.
  [[nodiscard]] std::vector<float> on_device(std::string_view op) {
    const gpu::DeviceStep* const step = gpu::find_device_step(op);
    REQUIRE(step != nullptr);
    constexpr std::size_t guard = 256;
    const auto bytes = static_cast<std::size_t>(step->scratch == nullptr ? 0 : step->scratch(prepared()));
    PlacedBytes room(static_cast<std::int64_t>(bytes + guard), 0);
    gpu::Queue queue;
    NoProducts products;
    fault = 0;
    DeviceRun device{queue, products, {room.data(), bytes}, &fault};
    StepContext call = prepared();
    call.device = &device;
    step->run(call);
    CHECK(queue.waits() == 0);
    queue.wait();
    CHECK(std::all_of(room.data() + bytes, room.data() + bytes + guard,
                      [](std::byte b) { return b == std::byte{0xFF}; }));
    return result(call);
  }

 private:
  static WireView wire(Extents extents, DType dtype) {
    WireView view{.dtype = dtype, .rank = static_cast<int>(extents.size())};
    std::copy(extents.begin(), extents.end(), view.extents.begin());
    return view;
  }
  StepCase& add(WireView view, void* data) {
    view.data = static_cast<std::byte*>(data);
    inputs_.push_back(view);
    context.inputs = inputs_;
    return *this;
  }
  /// The context with a fresh output, or an input of which a copy is written over.
  StepContext prepared() {
    StepContext call = context;
    call.output = output_;
    written_.assign(static_cast<std::size_t>(output_.size()), std::numeric_limits<float>::quiet_NaN());
    call.output.data = reinterpret_cast<std::byte*>(written_.data());
    if (over_ < inputs_.size()) {
      std::ranges::copy(inputs_[over_].values(), written_.begin());
      changed_ = inputs_;
      changed_[over_].data = call.output.data;
      call.inputs = changed_;
    }
    return call;
  }
  [[nodiscard]] std::vector<float> result(const StepContext& call) const {
    const std::span<const float> values = call.output.values();
    return {values.begin(), values.end()};
  }

  std::uint64_t seed_ = 0;
  std::size_t over_ = max_step_inputs;
  std::deque<std::vector<float>> input_values_;
  std::deque<std::vector<std::int32_t>> input_ids_;
  std::deque<std::vector<std::uint32_t>> stored_;
  std::vector<WireView> inputs_, changed_;
  std::vector<TensorView> weights_;
  WireView output_{};
  std::vector<float> written_;
};

/// The largest difference of two results, as a part of the largest number of the expected one: where terms cancel, an error
/// is measured against the terms. Infinity where one is NaN alone.
[[nodiscard]] inline double difference(std::span<const float> got, std::span<const float> expected) {
  REQUIRE(got.size() == expected.size());
  double largest = 0;
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto a = static_cast<double>(got[i]);
    const auto b = static_cast<double>(expected[i]);
    if ((a != a) != (b != b)) return std::numeric_limits<double>::infinity();
    if (a != a) continue;
    largest = std::max(largest, std::abs(b));
    worst = std::max(worst, std::abs(a - b));
  }
  return largest == 0 ? worst : worst / largest;
}

/// A few hundred sums in float, in another order and with another library's exp, differ by some units of 2^-24 = 6e-8
/// each; a device's must not differ by more than this of the host's.
inline constexpr double device_tolerance = 1e-5;

} // namespace tenon::test
