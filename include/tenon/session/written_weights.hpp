// SPDX-License-Identifier: Apache-2.0
// How a session writes overlays and weights, and keeps them right: overlays are made again where one below them ended, and
// a model's own weights are claimed by one session and restored from their source.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/session/device_merge.hpp>
#include <tenon/session/device_side.hpp>
#include <tenon/session/residency.hpp>
#include <tenon/session/session_state.hpp>

#include <cstddef>
#include <cstdint>

namespace tenon {

template <class AfterBand>
void SessionState::write(OverlayNode& node, const OverlayNode* below, const OverlayNode* skipped,
                         LossRoom loss, AfterBand after_band) {
  if (!device_)
    return write_overlay(slots_, node, below, skipped, workspace_.workers(), drops_covered_pages_, loss,
                         after_band);
  if (node.is_merged_by_host())
    return merge_by_host(slots_, node, below, skipped, device_->lane(), loss, after_band);
  merge_by_device(slots_, node, below, skipped, device_->lane());
  after_band(slots_.source(node.slot).bytes());
}

TENON_INLINE void SessionState::restore_on_device(void* state, std::byte* weight,
                                                  const TensorView& source) noexcept {
  auto& session = *static_cast<SessionState*>(state);
  try {
    session.device_->lane().upload(weight, {source.data, static_cast<std::size_t>(source.bytes())});
  } catch (...) {
    session.model_->use.lose_weights(ModelUse::Loss::device_failed);
    session.slots_.forget_sources();
  }
}

TENON_INLINE void SessionState::in_place_guard_begins() {
  if (!model_->owns_weights())
    throw error(ErrorCode::bad_argument,
                "attach (in place): this model maps its weights, which are never written; "
                "open it with {.own_weights = true}, or attach<merged>");
  if (in_place_guards_ == 0 && !model_->use.claim())
    throw error(ErrorCode::wrong_state,
                "attach (in place): other sessions compute with this model's weights; end them first, or "
                "attach<merged>");
  ++in_place_guards_;
}

TENON_INLINE void SessionState::in_place_guard_ends() noexcept {
  if (--in_place_guards_ > 0) return;
  try {
    if (device_) model_->residency->leave(device_->lane()); // restoring, before another session's passes
  } catch (...) {
    model_->use.lose_weights(ModelUse::Loss::device_failed);
  }
  model_->use.unclaim();
}

TENON_INLINE void SessionState::check_sources() noexcept {
  try {
    model_->check_unchanged();
  } catch (...) {
    model_->use.lose_weights(ModelUse::Loss::file_changed);
    slots_.forget_sources();
  }
}

TENON_INLINE void SessionState::refresh() noexcept {
  slots_.refresh([this](OverlayNode& node, const OverlayNode* below) {
    try {
      write(node, below, nullptr, {}, [](std::int64_t) {});
      return true;
    } catch (...) { // a device alone can fail here
      if (node.is_in_place) model_->use.lose_weights(ModelUse::Loss::device_failed);
      return false;
    }
  });
}

} // namespace tenon
