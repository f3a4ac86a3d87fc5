// SPDX-License-Identifier: Apache-2.0
// One step as a session would call it, on the host and on a device: the same context, so that the two can be compared.
#pragma once

#include <support/device_step.hpp>
#include <support/device_tolerance.hpp>
#include <support/naive.hpp>

#include <tenon/weights/convert.hpp>

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

  /// With a MiB of scratch, or what `scratch` says.
  [[nodiscard]] std::vector<float> on_host(StepFunction run, ScratchFunction scratch = nullptr) {
    StepContext call = prepared();
    std::vector<std::byte> room(scratch == nullptr ? 1 << 20 : static_cast<std::size_t>(scratch(call) + 64));
    call.workers = kernels::Workers(kernels::Scratch(room));
    run(call);
    return result(call);
  }
  [[nodiscard]] std::vector<float> on_device(std::string_view op) {
    const StepContext call = prepared();
    fault = run_on_device(op, call);
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

} // namespace tenon::test
