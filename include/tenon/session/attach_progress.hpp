// SPDX-License-Identifier: Apache-2.0
// Watching, and cancelling, an attach that writes weights. `session.attach<tn::merged>(tone,
// tn::on_progress([](const tn::AttachProgress& p) { show(p); return !stop; }))`. The callback is called on
// the attaching thread after every 64 MiB of weights at most, and once for each slot. Where it returns
// false, the attach throws `error{cancelled}`; what it throws itself goes through. Model, session and ledger
// are then as they were before.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

namespace tenon {

/// How far an attach has come.
struct AttachProgress {
  std::string_view slot{};      ///< whose weight is being written; valid during the call
  std::int64_t bytes_done = 0;  ///< of weights
  std::int64_t bytes_total = 0; ///< of weights, of all slots
};

/// A callback for `attach`, held by value. Returning nothing counts as "go on".
template <class F>
struct OnProgress {
  F function;
};

template <class F>
  requires std::invocable<F&, const AttachProgress&>
[[nodiscard]] OnProgress<std::decay_t<F>> on_progress(F&& function) {
  return {std::forward<F>(function)};
}

template <class T>
struct IsProgress : std::false_type {};
template <class F>
struct IsProgress<OnProgress<F>> : std::true_type {};

/// A callback that lives elsewhere, without its type; empty by default.
class ProgressRef {
 public:
  ProgressRef() = default;
  template <class F>
  // NOLINTNEXTLINE(google-explicit-constructor): an argument that lives as long as the call
  ProgressRef(const OnProgress<F>& callback) noexcept
      : object_(const_cast<F*>(
            &callback.function)), // NOLINT(cppcoreguidelines-pro-type-const-cast): it may count
        call_([](void* object, const AttachProgress& progress) {
          F& function = *static_cast<F*>(object);
          if constexpr (std::is_void_v<std::invoke_result_t<F&, const AttachProgress&>>) {
            function(progress);
            return true;
          } else {
            return static_cast<bool>(function(progress));
          }
        }) {}

  [[nodiscard]] explicit operator bool() const noexcept { return call_ != nullptr; }
  /// Whether to go on. Precondition: not empty.
  [[nodiscard]] bool operator()(const AttachProgress& progress) const { return call_(object_, progress); }

 private:
  void* object_ = nullptr;
  bool (*call_)(void*, const AttachProgress&) = nullptr;
};

} // namespace tenon
