// SPDX-License-Identifier: Apache-2.0
// Whether a net can compute with these values of its named dimensions: each must be a multiple of what the net
// divides it by.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/graph/program.hpp>

namespace tenon {

/// Throws `shape_error` that names the dimension and the wire.
inline void check_dims(const Program& program, const Dims& dims) {
  const auto check = [&](const Wire& wire, Axis axis, std::int32_t over) {
    if (over == 1 || dims.of(axis) % over == 0) return;
    throw shape_error(ErrorCode::wrong_shape,
                      concat("this net computes on ", shape_text(wire.shape), " (",
                             program.text_of(wire.name).empty() ? std::string_view("a wire inside")
                                                                : program.text_of(wire.name),
                             "): ", axis_name(axis), " must be a multiple of ", over, ", got ", dims.of(axis),
                             "; pad or crop the input"));
  };
  for (const Wire& wire : program.wires)
    for (int i = 0; i < wire.shape.rank; ++i) {
      const Dim& dim = wire.shape.dims[i];
      if (dim.is_fixed()) continue;
      check(wire, dim.axis, dim.over);
      if (dim.by != Axis::fixed) check(wire, dim.by, dim.by_over);
    }
}

/// The least named dimensions that the net can compute with: 1, or what it divides them by.
[[nodiscard]] inline Dims least_dims(const Program& program) noexcept {
  Dims dims;
  const auto cover = [&dims](Axis axis, std::int32_t over) {
    if (axis != Axis::fixed) dims.at(axis) *= over / common_divisor(dims.at(axis), over);
  };
  for (const Wire& wire : program.wires)
    for (int i = 0; i < wire.shape.rank; ++i) {
      cover(wire.shape.dims[i].axis, wire.shape.dims[i].over);
      cover(wire.shape.dims[i].by, wire.shape.dims[i].by_over);
    }
  return dims;
}

} // namespace tenon
