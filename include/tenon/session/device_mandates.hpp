// SPDX-License-Identifier: Apache-2.0
// A net whose ops a device has not is refused where it is opened there, at compile time.
#pragma once

#include <tenon/graph/lower.hpp>
#include <tenon/graph/mandate.hpp>
#include <tenon/session/device_ops.hpp>

namespace tenon {

/// The first op of the program that no device has; empty if they have all.
[[nodiscard]] constexpr NameText first_host_op(const Program& program) {
  for (const Step& step : program.steps)
    if (step.kind == StepKind::compute && !is_device_op(step.op)) return NameText(step.op);
  return {};
}

/// Whether the default device computes the net.
template <class Net>
inline constexpr bool runs_on_device = first_host_op(program_of<Net>()).empty();

template <class Net, fixed_string Op, bool OnDevice>
struct OpIsOnDevice {
  static_assert(OnDevice, "tenon::open: no device has this op of the net; open the model on the host");
};

/// Deriving from it, or taking its size, checks the net.
template <class Net>
struct DeviceMandates {
  static constexpr NameText host_op = first_host_op(program_of<Net>());
  static_assert(sizeof(OpIsOnDevice<Net, exact_name<host_op>(), host_op.empty()>) > 0);
};

} // namespace tenon
