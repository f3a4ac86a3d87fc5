// SPDX-License-Identifier: Apache-2.0
// The shape of a wire: its dimensions and element type. What an op takes is a Shape too, perhaps with free leading
// dimensions. All of it works in constant expressions.
#pragma once

#include <tenon/graph/dims.hpp>
#include <tenon/weights/dtype.hpp>

#include <cstdint>
#include <initializer_list>
#include <string>

namespace tenon {

inline constexpr int max_wire_rank = 5;

/// Structural (it appears as a template argument in diagnostics). `leading_free` makes it a pattern: any
/// dimensions may stand before the listed ones; so do dimensions that are open (`any_dim`).
struct Shape {
  DType dtype = DType::f32;
  int rank = 0;
  Dim dims[max_wire_rank]{};
  bool leading_free = false;

  [[nodiscard]] static constexpr Shape of(std::initializer_list<Dim> list,
                                          DType dtype = DType::f32) noexcept {
    Shape shape;
    shape.dtype = dtype;
    for (const Dim& dim : list) shape.dims[shape.rank++] = dim;
    return shape;
  }
  /// The pattern `[..., width]`.
  [[nodiscard]] static constexpr Shape rows_of(std::int64_t width) noexcept {
    Shape shape = of({fixed(width)});
    shape.leading_free = true;
    return shape;
  }
  /// The pattern of images, channels last: [batch, height, width, channels], or [batch, frames, height, width,
  /// channels] for three axes; [batch, tokens, channels] for one.
  [[nodiscard]] static constexpr Shape grid_of(std::int64_t channels, int axes = 2) noexcept {
    if (axes == 1) return of({any_dim(Axis::batch), any_dim(Axis::tokens), fixed(channels)});
    Shape shape = of({any_dim(Axis::batch)});
    if (axes == 3) shape.dims[shape.rank++] = any_dim(Axis::frames);
    for (const Dim& dim : {any_dim(Axis::height), any_dim(Axis::width), fixed(channels)})
      shape.dims[shape.rank++] = dim;
    return shape;
  }
  /// The pattern `[...]`: any f32 wire.
  [[nodiscard]] static constexpr Shape any() noexcept {
    Shape shape;
    shape.leading_free = true;
    return shape;
  }

  [[nodiscard]] constexpr bool is_any() const noexcept { return leading_free && rank == 0; }
  [[nodiscard]] constexpr Dim last() const noexcept { return rank == 0 ? Dim{} : dims[rank - 1]; }
  /// Extent of the last dimension; 0 where it is a named axis or there is none.
  [[nodiscard]] constexpr std::int64_t width() const noexcept {
    return last().is_fixed() ? last().extent : 0;
  }
  /// This shape with another last dimension.
  [[nodiscard]] constexpr Shape with_width(std::int64_t width) const noexcept {
    if (rank == 0) return rows_of(width);
    Shape shape = *this;
    shape.dims[rank - 1] = fixed(width);
    return shape;
  }
  /// The shape an open input gets when this is what its first reader takes: free dimensions become [batch,
  /// tokens], open ones their axis.
  [[nodiscard]] constexpr Shape opened() const noexcept {
    Shape shape = leading_free ? of({batch_dim, tokens_dim}, dtype) : of({}, dtype);
    for (int i = 0; i < rank; ++i) {
      shape.dims[shape.rank] = dims[i];
      shape.dims[shape.rank++].is_open = false;
    }
    return shape;
  }
  /// Elements for given named dimensions.
  [[nodiscard]] constexpr std::int64_t size(const Dims& at) const noexcept {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i].at(at);
    return n;
  }
  [[nodiscard]] constexpr std::int64_t bytes(const Dims& at) const noexcept {
    return size(at) * dtype_bytes(dtype);
  }

  friend constexpr bool operator==(const Shape& a, const Shape& b) noexcept {
    if (a.dtype != b.dtype || a.rank != b.rank || a.leading_free != b.leading_free) return false;
    for (int i = 0; i < a.rank; ++i)
      if (!(a.dims[i] == b.dims[i])) return false;
    return true;
  }
};

/// "[batch, tokens, 768]"
[[nodiscard]] inline std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank; ++i) text += (i == 0 ? "" : ", ") + dim_text(shape.dims[i]);
  return text + "]";
}

/// Whether a wire of shape `wire` may stand where `taken` is asked for.
[[nodiscard]] constexpr bool accepts(const Shape& taken, const Shape& wire) noexcept {
  if (taken.dtype != wire.dtype || wire.rank < taken.rank) return false;
  if (!taken.leading_free && wire.rank != taken.rank) return false;
  for (int i = 1; i <= taken.rank; ++i) {
    const Dim& dim = taken.dims[taken.rank - i];
    if (!dim.is_open && !(dim == wire.dims[wire.rank - i])) return false;
  }
  return true;
}

} // namespace tenon
