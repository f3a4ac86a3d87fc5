// SPDX-License-Identifier: Apache-2.0
// What an attachment makes of the pristine weights: the terms of other kinds than LoRA with their gains, and those of
// biases. DoRA's gains and GLoRA's W C are a pass over each weight; on a device's model that is the source on the host.
#pragma once

#include <tenon/adapters/terms.hpp>
#include <tenon/session/device_terms.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tenon {

class MadeTerms {
 public:
  /// Where the term of a change of adapter `a` will be.
  void add(const SlotDelta& delta, std::size_t a, kernels::DeltaTerm& term) {
    deltas_.push_back({&delta, a, &term});
  }
  void add(const SlotBias& bias, std::size_t a, kernels::BiasTerm& term) {
    biases_.push_back({&bias, a, &term});
  }
  [[nodiscard]] std::size_t delta_count() const noexcept { return deltas_.size(); }
  [[nodiscard]] std::int32_t delta_slot(std::size_t i) const noexcept { return deltas_[i].change->slot; }
  [[nodiscard]] std::int32_t bias_slot(std::size_t i) const noexcept { return biases_[i].change->slot; }

  /// Makes all of them, the gains and values in `floats` [plan.gain_floats]. `watch(slot, bytes)` is called after each
  /// pass over a weight; what it throws goes through. Throws as DeviceLane does.
  template <class Watch>
  void make(const AttachPlan& plan, std::span<float> floats, DeviceTerms& on_device, Watch watch) {
    const auto gains = floats.size() - static_cast<std::size_t>(plan.made_floats);
    make_deltas(plan, floats.first(gains), on_device, watch);
    make_biases(plan, floats.subspan(gains), on_device, watch);
  }
  /// The same for other strengths, which the values of biases do not depend on. On a device there are none beside weights.
  void rescale(const AttachPlan& plan, std::span<float> floats, DeviceTerms& on_device) {
    make_deltas(plan, floats, on_device, [](std::int32_t, std::int64_t) {});
  }
  void set_bias_scales(const AttachPlan& plan) noexcept {
    for (const Order<SlotBias, kernels::BiasTerm>& order : biases_)
      order.term->scale = bias_scale(*order.change, plan.weight_at(order.adapter, order.change->slot));
  }

 private:
  template <class Change, class Term>
  struct Order {
    const Change* change = nullptr;
    std::size_t adapter = 0;
    Term* term = nullptr;
  };

  template <class Watch>
  void make_deltas(const AttachPlan& plan, std::span<float> gains, DeviceTerms& on_device, Watch watch) {
    const kernels::Workers workers = on_device.workers(plan);
    for (const Order<SlotDelta, kernels::DeltaTerm>& order : deltas_) {
      const SlotDelta& delta = *order.change;
      const TensorView& base = plan.session->slots().source(delta.slot);
      *order.term = delta_term(delta, plan.weight_at(order.adapter, delta.slot), weight_matrix(base),
                               gains.data(), workers);
      gains = gains.subspan(static_cast<std::size_t>(delta.gain_count(base.extent(0), base.extent(1))));
      if (delta.gains == GainSource::magnitude) watch(delta.slot, base.bytes());
    }
  }
  template <class Watch>
  void make_biases(const AttachPlan& plan, std::span<float> made, DeviceTerms& on_device, Watch watch) {
    const kernels::Workers workers = on_device.workers(plan);
    const std::span<float> all = made;
    for (const Order<SlotBias, kernels::BiasTerm>& order : biases_) {
      const SlotBias& bias = *order.change;
      const TensorView& base = plan.session->slots().source(bias.slot);
      *order.term = bias_term(bias, plan.weight_at(order.adapter, bias.slot), weight_matrix(base),
                              made.data(), workers);
      const auto count = static_cast<std::size_t>(plan.made_count(bias));
      if (count > 0 && bias.of_weight == nullptr) { // of a type that a device does not read
        decode(bias.values.dtype, bias.values.data, bias.values.size, made.data());
        order.term->values = {reinterpret_cast<const std::byte*>(made.data()), DType::f32, bias.values.size};
      }
      made = made.subspan(count);
      if (bias.of_weight != nullptr) watch(bias.slot, AttachCost::bytes_of_rows(base, bias.rows));
    }
    on_device.send_made(plan, all);
    for (const Order<SlotBias, kernels::BiasTerm>& order : biases_)
      if (plan.made_count(*order.change) > 0)
        on_device.place_made(*order.term);
      else
        on_device.place(order.adapter, *order.term);
  }

  std::vector<Order<SlotDelta, kernels::DeltaTerm>>
      deltas_{}; ///< beside weights or of overlays, in their order
  std::vector<Order<SlotBias, kernels::BiasTerm>> biases_{};
};

} // namespace tenon
