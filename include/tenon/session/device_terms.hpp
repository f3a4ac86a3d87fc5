// SPDX-License-Identifier: Apache-2.0
// What an attachment has on its model's device: the adapters' copies there, the scales of terms beside weights, which a
// pass reads from the device's memory, and what merges take. On the host it is empty and does nothing.
#pragma once

#include <tenon/memory/buffer.hpp>
#include <tenon/session/attach_plan.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace tenon {

class DeviceTerms {
 public:
  DeviceTerms() = default;
  /// Copies the adapters that are not there. Throws as Residency and Buffer do.
  DeviceTerms(const AttachPlan& plan, std::string_view operation) {
    if (!plan.session->is_on_device()) return;
    for (const auto& adapter : plan.adapters)
      residents_.push_back(plan.session->model().residency->use(adapter, *plan.session->lane()));
    Ledger& ledger = *plan.session->model().memory;
    if (plan.writes_weights())
      merge_room_ = Buffer(ledger, Category::scratch, plan.device_bytes[Category::scratch], operation);
    else
      scales_ = Buffer(ledger, Category::adapter, plan.term_count * static_cast<std::int64_t>(sizeof(float)),
                       operation);
  }

  /// Lets a term of adapter `a` view the copies.
  template <class Term>
  void place(std::size_t a, Term& term) const noexcept {
    if (!residents_.empty()) residents_[a]->place(term);
  }
  /// For one merge after the other.
  [[nodiscard]] std::span<std::byte> merge_room() noexcept {
    return {merge_room_.data(), static_cast<std::size_t>(merge_room_.bytes())};
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
  std::vector<std::shared_ptr<const ResidentAdapter>> residents_{}; ///< by adapter
  Buffer scales_{};
  Buffer merge_room_{};
};

} // namespace tenon
