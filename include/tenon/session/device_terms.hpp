// SPDX-License-Identifier: Apache-2.0
// What an attachment has for its model's device: there the adapters' copies, biases that the host makes, the scales of
// terms beside weights, which a pass reads from the device's memory, and what merges take; on the host, what it takes to
// merge for the device. For a model of the host it is empty and does nothing.
#pragma once

#include <tenon/memory/buffer.hpp>
#include <tenon/session/attach_plan.hpp>
#include <tenon/session/residency.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace tenon {

class DeviceTerms {
 public:
  DeviceTerms() = default;
  /// Copies the adapters that the device reads and that are not there. Throws as Residency and Buffer do.
  DeviceTerms(const AttachPlan& plan, std::string_view operation) {
    if (!plan.session->is_on_device()) return;
    host_room_ = Buffer(plan.session->ledger(), Category::scratch, plan.host_room.total(), operation);
    rows_ = plan.host_room.rows;
    Ledger& ledger = *plan.session->model().memory;
    if (plan.writes_weights())
      merge_room_ = Buffer(ledger, Category::scratch, plan.device_bytes[Category::scratch], operation);
    else
      scales_ = Buffer(ledger, Category::adapter, floats(plan.term_count), operation);
    made_ = Buffer(ledger, Category::adapter, floats(plan.made_floats), operation);
    residents_.resize(plan.adapters.size());
    for (std::size_t a = 0; a < residents_.size(); ++a)
      if (plan.device_reads(a))
        residents_[a] = plan.session->model().residency->use(plan.adapters[a], *plan.session->lane());
  }

  /// Lets a term of adapter `a` view the copies. Precondition: the device reads it.
  template <class Term>
  void place(std::size_t a, Term& term) const noexcept {
    if (!residents_.empty()) residents_[a]->place(term);
  }
  /// Brings floats of biases to the device, from which `place_made` finds them. Throws as DeviceLane does.
  void send_made(const AttachPlan& plan, std::span<const float> made) {
    if (made_.bytes() == 0) return;
    plan.session->lane()->upload(made_.data(), std::as_bytes(made));
    host_made_ = made.data();
  }
  /// Lets a term whose values are among those sent view the copies.
  void place_made(kernels::BiasTerm& term) const noexcept {
    if (host_made_ == nullptr) return;
    term.values.data = made_.data() + (term.values.data - reinterpret_cast<const std::byte*>(host_made_));
  }

  /// On the device, for one merge after the other.
  [[nodiscard]] std::span<std::byte> merge_room() noexcept { return span_of(merge_room_); }
  /// On the host, for rows until they are uploaded.
  [[nodiscard]] std::span<std::byte> host_rows() noexcept {
    return span_of(host_room_).first(static_cast<std::size_t>(rows_));
  }
  /// On the host, for kernels that make something for the device.
  [[nodiscard]] kernels::Scratch host_scratch() noexcept {
    return kernels::Scratch(span_of(host_room_).subspan(static_cast<std::size_t>(rows_)));
  }
  /// Who makes what follows from weights: for a device the calling thread.
  [[nodiscard]] kernels::Workers workers(const AttachPlan& plan) noexcept {
    return plan.session->is_on_device() ? kernels::Workers(host_scratch())
                                        : plan.session->workspace().workers();
  }

  /// Brings the terms' scales to the device, and tells each term where its own lies. Throws as DeviceLane does.
  void send_scales(const AttachPlan& plan, std::span<SideTerm> sides) {
    if (scales_.bytes() == 0) return;
    std::vector<float> scales;
    for (SideTerm& side : sides) {
      side.term.scale_at = reinterpret_cast<const float*>(scales_.data()) + scales.size();
      scales.push_back(side.term.scale);
    }
    plan.session->lane()->upload(scales_.data(), std::as_bytes(std::span(scales)));
  }

 private:
  [[nodiscard]] static std::int64_t floats(std::int64_t count) noexcept {
    return count * static_cast<std::int64_t>(sizeof(float));
  }
  [[nodiscard]] static std::span<std::byte> span_of(Buffer& buffer) noexcept {
    return {buffer.data(), static_cast<std::size_t>(buffer.bytes())};
  }

  std::vector<std::shared_ptr<const ResidentAdapter>>
      residents_{}; ///< by adapter; null: the device reads nothing of it
  Buffer scales_{};
  Buffer merge_room_{};
  Buffer made_{};
  const float* host_made_ = nullptr; ///< what lies in `made_`
  Buffer host_room_{};
  std::int64_t rows_ = 0; ///< of its bytes
};

} // namespace tenon
