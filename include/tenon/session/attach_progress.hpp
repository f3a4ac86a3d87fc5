// SPDX-License-Identifier: Apache-2.0
// Watching, and cancelling, an attach that writes weights. `session.attach<tn::merged>(tone,
// tn::on_progress([](const tn::AttachProgress& p) { show(p); return !stop; }))`. The callback is called on
// the attaching thread after every 64 MiB of weights at most, and once for each slot. Where it returns
// false, the attach throws `error{cancelled}`; what it throws itself goes through. Model, session and ledger
// are then as they were before.
#pragma once

#include <tenon/core/progress.hpp>

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

/// Of an attach.
using ProgressRef = CallbackRef<AttachProgress>;

/// A callback for `attach`, held by value. Returning nothing counts as "go on".
template <class F>
struct OnProgress {
  F function;

  // NOLINTNEXTLINE(google-explicit-constructor): an option that is given as it is
  operator ProgressRef() const noexcept {
    return ProgressRef(
        const_cast<F&>(function)); // NOLINT(cppcoreguidelines-pro-type-const-cast): it may count
  }
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

} // namespace tenon
