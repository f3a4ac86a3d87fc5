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
    std::string expected = "[";
    for (int d = 0; d < wire.shape.rank; ++d) {
      const Dim& dim = wire.shape.dims[d];
      expected += concat(d == 0 ? "" : ", ", dim.axis == Axis::fixed ? std::to_string(dim.extent)
                                                                     : std::string(axis_name(dim.axis)));
    }
    throw shape_error(ErrorCode::wrong_shape,
                      concat("input ", program.text_of(wire.name), ": expected ", expected, "] ",
                             dtype_name(wire.shape.dtype), ", got ", input.text(), why));
  };
  if (input.dtype != wire.shape.dtype || input.rank > wire.shape.rank) refuse("");
  for (int d = 1; d <= wire.shape.rank; ++d) {
    const Dim& dim = wire.shape.dims[wire.shape.rank - d];
    const std::int64_t extent = d <= input.rank ? input.extent(input.rank - d) : 1;
    if (dim.axis == Axis::fixed) {
      if (extent != dim.extent) refuse("");
      continue;
    }
    std::int64_t& value = dim.axis == Axis::batch ? dims.batch : dims.tokens;
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
  Dims dims{.batch = -1, .tokens = -1};
  for (std::size_t i = 0; i < inputs.size(); ++i) unify_input(program, i, inputs[i], workspace, dims);
  if (dims.batch < 0) dims.batch = 1;
  if (dims.tokens < 0) dims.tokens = 1;
  return dims;
}

} // namespace tenon
