// SPDX-License-Identifier: Apache-2.0
// The dimensions of a wire: numbers that the architecture fixes, named axes (batch, tokens, height) that a call
// fixes, and what a net makes of named ones: half the height, text and image tokens together. All of it works in
// constant expressions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

/// A dimension that only a call can fix. `tokens` is the sequence that a net computes on, `context` another that it
/// reads (a prompt's), `image` the tokens of a picture that it reads.
enum class Axis : std::uint8_t { fixed, batch, tokens, context, image, frames, height, width };
inline constexpr std::array<std::string_view, 8> axis_names{"fixed", "batch",  "tokens", "context",
                                                            "image", "frames", "height", "width"};
[[nodiscard]] constexpr std::string_view axis_name(Axis axis) noexcept {
  return axis_names[static_cast<std::size_t>(axis)];
}

/// The values of the named dimensions for one call: `activation_bytes<Net>({.batch = 8, .tokens = 256})`.
struct Dims {
  std::int64_t batch = 1;
  std::int64_t tokens = 1;
  std::int64_t context = 1;
  std::int64_t image = 1;
  std::int64_t frames = 1;
  std::int64_t height = 1;
  std::int64_t width = 1;

  /// The value of a named axis. Precondition: not `fixed`.
  [[nodiscard]] constexpr std::int64_t& at(Axis axis) noexcept {
    switch (axis) {
    case Axis::tokens:
      return tokens;
    case Axis::context:
      return context;
    case Axis::image:
      return image;
    case Axis::frames:
      return frames;
    case Axis::height:
      return height;
    case Axis::width:
      return width;
    default:
      return batch;
    }
  }
  [[nodiscard]] constexpr std::int64_t of(Axis axis) const noexcept { return Dims(*this).at(axis); }
  friend constexpr bool operator==(const Dims&, const Dims&) = default;
};

/// One dimension: a number, or a named axis and what a net made of it:
/// extent + axis / over * (by / by_over) * times + plus. So tokens is {.axis = tokens}, half of height
/// {.axis = height, .over = 2}, the joint sequence of text and image {.axis = tokens, .plus = context}.
struct Dim {
  std::int64_t extent = 0;
  Axis axis = Axis::fixed;
  std::int32_t over = 1;
  Axis by = Axis::fixed;
  std::int32_t by_over = 1;
  Axis plus = Axis::fixed;
  std::int32_t times = 1;
  bool is_open = false; ///< in what an op takes: any dimension fits; that of an open input is `axis`

  [[nodiscard]] constexpr std::int64_t at(const Dims& dims) const noexcept {
    if (axis == Axis::fixed) return extent;
    std::int64_t n = dims.of(axis) / over;
    if (by != Axis::fixed) n *= dims.of(by) / by_over;
    return extent + n * times + (plus == Axis::fixed ? 0 : dims.of(plus));
  }
  [[nodiscard]] constexpr bool is_fixed() const noexcept { return axis == Axis::fixed; }
  /// A named axis as it is, or a number.
  [[nodiscard]] constexpr bool is_plain() const noexcept {
    return is_fixed() || (extent == 0 && over == 1 && times == 1 && by == Axis::fixed && plus == Axis::fixed);
  }
  /// One named axis, perhaps divided or multiplied.
  [[nodiscard]] constexpr bool is_of_one_axis() const noexcept {
    return !is_fixed() && extent == 0 && by == Axis::fixed && plus == Axis::fixed;
  }
  friend constexpr bool operator==(const Dim&, const Dim&) = default;
};

[[nodiscard]] constexpr Dim fixed(std::int64_t extent) noexcept { return {.extent = extent}; }
inline constexpr Dim batch_dim{.axis = Axis::batch};
inline constexpr Dim tokens_dim{.axis = Axis::tokens};
inline constexpr Dim context_dim{.axis = Axis::context};
inline constexpr Dim image_dim{.axis = Axis::image};
inline constexpr Dim frames_dim{.axis = Axis::frames};
inline constexpr Dim height_dim{.axis = Axis::height};
inline constexpr Dim width_dim{.axis = Axis::width};
/// In what an op takes: any dimension, and `axis` where the input of a net is read.
[[nodiscard]] constexpr Dim any_dim(Axis axis) noexcept { return {.axis = axis, .is_open = true}; }

[[nodiscard]] constexpr std::int64_t common_divisor(std::int64_t a, std::int64_t b) noexcept {
  while (b != 0) {
    const std::int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

/// A dimension divided by a whole number; a named axis must be a multiple of it, which each call checks.
[[nodiscard]] constexpr Dim operator/(Dim dim, std::int64_t by) {
  if (dim.is_fixed()) {
    if (dim.extent % by != 0)
      throw "tenon: a dimension of this net is divided by a number that does not divide it";
    return fixed(dim.extent / by);
  }
  if (by == 1) return dim;
  if (!dim.is_of_one_axis()) throw "tenon: only a dimension of one named axis can be divided";
  const std::int64_t common = common_divisor(dim.times, by);
  dim.times = static_cast<std::int32_t>(dim.times / common);
  dim.over = static_cast<std::int32_t>(dim.over * (by / common));
  return dim;
}
/// A dimension times a whole number, exactly what it was if it was divided by that before.
[[nodiscard]] constexpr Dim operator*(Dim dim, std::int64_t by) {
  if (dim.is_fixed()) return fixed(dim.extent * by);
  if (by == 1) return dim;
  if (!dim.is_of_one_axis()) throw "tenon: only a dimension of one named axis can be multiplied";
  const std::int64_t common = common_divisor(dim.over, by);
  dim.over = static_cast<std::int32_t>(dim.over / common);
  dim.times = static_cast<std::int32_t>(dim.times * (by / common));
  return dim;
}
/// Two dimensions laid out as one.
[[nodiscard]] constexpr Dim operator*(Dim a, Dim b) {
  if (a.is_fixed()) return a.extent == 1 ? b : b * a.extent;
  if (b.is_fixed()) return a * b.extent;
  if (!a.is_of_one_axis() || !b.is_of_one_axis())
    throw "tenon: at most two named dimensions can be laid out as one";
  a.by = b.axis;
  a.by_over = b.over;
  a.times *= b.times;
  return a;
}
/// The length of two sequences one after the other.
[[nodiscard]] constexpr Dim operator+(Dim a, Dim b) {
  if (a.is_fixed() && !b.is_fixed()) return b + a;
  a.extent += b.extent;
  if (b.is_fixed()) return a;
  if (a.plus == Axis::fixed && b.over == 1 && b.times == 1 && b.by == Axis::fixed && b.plus == Axis::fixed) {
    a.plus = b.axis;
    return a;
  }
  if (b.plus == Axis::fixed && a.over == 1 && a.times == 1 && a.by == Axis::fixed && a.plus == Axis::fixed) {
    b.extent = a.extent;
    b.plus = a.axis;
    return b;
  }
  throw "tenon: these two dimensions cannot be joined; one of them must be a named axis as it is, or a "
        "number";
}

/// "batch", "768", "height*8", "height/2*width/2", "tokens+context".
[[nodiscard]] inline std::string dim_text(const Dim& dim) {
  if (dim.is_fixed()) return std::to_string(dim.extent);
  const auto part = [](Axis axis, std::int32_t over) {
    std::string text(axis_name(axis));
    return over == 1 ? text : text + "/" + std::to_string(over);
  };
  std::string text = part(dim.axis, dim.over);
  if (dim.by != Axis::fixed) text += "*" + part(dim.by, dim.by_over);
  if (dim.times != 1) text += "*" + std::to_string(dim.times);
  if (dim.plus != Axis::fixed) text += "+" + part(dim.plus, 1);
  if (dim.extent != 0) text += "+" + std::to_string(dim.extent);
  return text;
}

} // namespace tenon
