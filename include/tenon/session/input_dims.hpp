// SPDX-License-Identifier: Apache-2.0
// What a call's inputs say: whether each fits its wire, and the named dimensions (batch, tokens) that their
// shapes fix together. An input that does not fit is refused in one sentence.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/graph/program.hpp>
#include <tenon/session/workspace.hpp>
#include <tenon/weights/tensor_view.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tenon {

/// Matches from the last dimension on; leading named dimensions may be left out and are then 1.
inline void unify_input(const Program& program, std::size_t i, const TensorView& input,
                        const Workspace& workspace, Dims& dims) {
  const Wire& wire = program.wires[static_cast<std::size_t>(program.inputs[i])];
  const auto refuse = [&](std::string_view why) {
    throw shape_error(ErrorCode::wrong_shape,
                      concat("input ", program.text_of(wire.name), ": expected ", shape_text(wire.shape), " ",
                             dtype_name(wire.shape.dtype), ", got ", input.text(), why));
  };
  if (input.dtype != wire.shape.dtype || input.rank > wire.shape.rank) refuse("");
  for (int d = 1; d <= wire.shape.rank; ++d) {
    const Dim& dim = wire.shape.dims[wire.shape.rank - d];
    const std::int64_t extent = d <= input.rank ? input.extent(input.rank - d) : 1;
    if (dim.is_fixed()) {
      if (extent != dim.extent) refuse("");
      continue;
    }
    std::int64_t& value = dims.at(dim.axis);
    if (value >= 0 && value != extent)
      refuse(concat("; another input has ", axis_name(dim.axis), " = ", value));
    value = extent;
  }
  if (input.size() == 0) refuse("; it has no elements");
  if (workspace.holds(input.data)) refuse("; it lies in this session's own workspace, make a copy");
  if (!input.is_contiguous()) refuse("; its elements must be contiguous, make a copy");
  if (reinterpret_cast<std::uintptr_t>(input.data) % static_cast<std::uintptr_t>(dtype_bytes(input.dtype)) !=
      0)
    refuse("; its address must be a multiple of the element's size, make a copy");
}

/// The named dimensions that the inputs' shapes say; all must agree.
[[nodiscard]] inline Dims dims_of_inputs(const Program& program, std::span<const TensorView> inputs,
                                         const Workspace& workspace) {
  constexpr std::int64_t unknown = -1;
  Dims dims;
  for (std::size_t axis = 1; axis < axis_names.size(); ++axis) dims.at(static_cast<Axis>(axis)) = unknown;
  for (std::size_t i = 0; i < inputs.size(); ++i) unify_input(program, i, inputs[i], workspace, dims);
  for (std::size_t axis = 1; axis < axis_names.size(); ++axis)
    if (std::int64_t& value = dims.at(static_cast<Axis>(axis)); value == unknown) value = 1;
  return dims;
}

} // namespace tenon
