// SPDX-License-Identifier: Apache-2.0
// Who uses a model: any number of sessions, or one that merges into the model's own weights and has it to
// itself. Threads: any.
#pragma once

#include <tenon/core/error.hpp>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

class ModelUse {
 public:
  /// A session begins. Throws `error{wrong_state}` if another one has the model to itself, or lost its
  /// weights.
  void enter() {
    std::int64_t sessions = sessions_.load(std::memory_order_relaxed);
    do {
      check_weights();
      if (sessions == claimed)
        throw error(ErrorCode::wrong_state,
                    "Session: another session has adapters merged into this model's own weights; end its "
                    "guards first");
    } while (!sessions_.compare_exchange_weak(sessions, sessions + 1, std::memory_order_acquire));
  }
  void leave() noexcept { sessions_.fetch_sub(1, std::memory_order_release); }

  /// The only session takes the model for itself; false if there are others.
  [[nodiscard]] bool claim() noexcept {
    std::int64_t alone = 1;
    return sessions_.compare_exchange_strong(alone, claimed, std::memory_order_acquire);
  }
  [[nodiscard]] bool has_one_session() const noexcept {
    return sessions_.load(std::memory_order_relaxed) == 1;
  }
  void unclaim() noexcept { sessions_.store(1, std::memory_order_release); }

  enum class Loss : std::uint8_t { none, file_changed, device_failed };

  /// The weights could not be restored: from now on the model computes nothing.
  void lose_weights(Loss why) noexcept { loss_.store(why, std::memory_order_relaxed); }
  /// Throws `error{io}` or `error{device_failed}` if they were lost.
  void check_weights() const {
    const Loss loss = loss_.load(std::memory_order_relaxed);
    if (loss == Loss::device_failed)
      throw error(
          ErrorCode::device_failed,
          "the device failed while this model's weights were written or restored; open the model again");
    if (loss == Loss::file_changed)
      throw error(ErrorCode::io,
                  "this model's file changed while an adapter was merged into its weights in place, so "
                  "they could not be restored; open the model again");
  }

 private:
  static constexpr std::int64_t claimed = -1;
  std::atomic<std::int64_t> sessions_{0};
  std::atomic<Loss> loss_{Loss::none};
};

/// A session's place at a model.
class ModelSeat {
 public:
  explicit ModelSeat(ModelUse& use) : use_(use) { use_.enter(); }
  ~ModelSeat() { use_.leave(); }
  ModelSeat(const ModelSeat&) = delete;
  ModelSeat& operator=(const ModelSeat&) = delete;

 private:
  ModelUse& use_;
};

} // namespace tenon
