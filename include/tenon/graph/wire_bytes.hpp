// SPDX-License-Identifier: Apache-2.0
// The bytes of wires for people: as products of the named axes, or as numbers for given dimensions.
#pragma once

#include <tenon/core/text.hpp>
#include <tenon/graph/program.hpp>

#include <optional>
#include <string>

namespace tenon {

/// "1536 x batch x tokens", "1280 x batch x height/2 x width/2", "12288 x batch x (tokens+context)": the bytes of a wire
/// as a product of what only a call fixes; a number where nothing is left to fix.
[[nodiscard]] inline std::string bytes_product(const Shape& shape) {
  std::int64_t bytes = dtype_bytes(shape.dtype);
  std::string factors;
  for (int i = 0; i < shape.rank; ++i) {
    Dim dim = shape.dims[i];
    if (dim.is_fixed()) {
      bytes *= dim.extent;
    } else if (dim.extent != 0 || dim.plus != Axis::fixed) {
      factors += concat(" x (", dim_text(dim), ")");
    } else {
      bytes *= dim.times;
      factors += concat(" x ", dim_text({.axis = dim.axis, .over = dim.over}));
      if (dim.by != Axis::fixed) factors += concat(" x ", dim_text({.axis = dim.by, .over = dim.by_over}));
    }
  }
  return concat(bytes, factors);
}

/// The bytes of a wire for `dims`, or their product where there are none.
[[nodiscard]] inline std::string wire_bytes_text(const Wire& wire, const std::optional<Dims>& dims) {
  return dims ? std::to_string(wire.shape.bytes(*dims)) : bytes_product(wire.shape);
}

} // namespace tenon
