// SPDX-License-Identifier: Apache-2.0
// Watching, and stopping, long work: a callback that is told how far it has come and says whether to go on.
// Cost: a call through a pointer. Threads: called on the thread that works.
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

namespace tenon {

struct Progress {
  std::string_view name{};     ///< of the tensor or module at work; valid during the call
  std::int64_t bytes_done = 0; ///< before this call, of all of the work
  std::int64_t bytes_total = 0;
};

/// A callback that lives elsewhere, without its type; empty by default. One that returns nothing says "go on".
template <class Event>
class CallbackRef {
 public:
  CallbackRef() = default;
  /// `f(const Event&)`, which must outlive the work.
  template <class F>
    requires(!std::is_same_v<std::remove_cv_t<F>, CallbackRef> && std::is_invocable_v<F&, const Event&>)
  // NOLINTNEXTLINE(google-explicit-constructor): an option that is given as it is
  CallbackRef(F& f) noexcept
      : object_(&f), call_([](const void* object, const Event& progress) {
          F& function = *static_cast<F*>(const_cast<void*>(object)); // NOLINT: F is const where f is
          if constexpr (std::is_void_v<std::invoke_result_t<F&, const Event&>>) {
            function(progress);
            return true;
          } else {
            return static_cast<bool>(function(progress));
          }
        }) {}

  [[nodiscard]] explicit operator bool() const noexcept { return call_ != nullptr; }
  /// Whether to go on; true without a callback.
  [[nodiscard]] bool operator()(const Event& progress) const {
    return call_ == nullptr || call_(object_, progress);
  }

 private:
  const void* object_ = nullptr;
  bool (*call_)(const void*, const Event&) = nullptr;
};

/// Of work on files.
using ProgressCallback = CallbackRef<Progress>;

} // namespace tenon
