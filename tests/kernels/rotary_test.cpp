// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/rotary.hpp>

#include <support/allocation_probe.hpp>
#include <support/naive.hpp>
#include <support/team.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>

using namespace tenon::kernels;
using namespace tenon::test;

namespace {

struct Case {
  std::int64_t sequences = 2;
  std::int64_t tokens = 5;
  std::int64_t heads = 3;
  std::int64_t width = 6;
  std::int64_t first = 0;
  RotaryPairs pairs = RotaryPairs::halves;
  RotaryAngles angles{};
};

FloatMatrix input(const Case& c, Place place = {}) {
  return {c.sequences * c.tokens, c.heads * c.width, 1, place};
}

void rotate(ConstMatrix x, const Case& c, Matrix y) {
  const ExactScratch room(rotary_scratch_bytes(c.width));
  rotate_sequences(x, c.tokens, c.first, c.width, c.angles, c.pairs, y, room.scratch());
  CHECK(room.guard_untouched());
}

/// Each pair is a complex number times e^(i angle); `frequency(pair)` is in radians per token.
template <class Frequency>
Twin exact_rotation(const FloatMatrix& x, const Case& c, const Frequency& frequency) {
  Twin twin(x.view.rows, x.view.cols);
  for (std::int64_t row = 0; row < twin.rows; ++row)
    for (std::int64_t head = 0; head < c.heads; ++head)
      for (std::int64_t pair = 0; pair < c.width / 2; ++pair) {
        const std::int64_t one = head * c.width + (c.pairs == RotaryPairs::neighbours ? 2 * pair : pair);
        const std::int64_t two = one + (c.pairs == RotaryPairs::neighbours ? 1 : c.width / 2);
        const double angle = static_cast<double>(c.first + row % c.tokens) * frequency(pair);
        const double cosine = std::cos(angle);
        const double sine = std::sin(angle);
        const double size = std::abs(x(row, one) * cosine) + std::abs(x(row, two) * sine);
        const double other_size = std::abs(x(row, one) * sine) + std::abs(x(row, two) * cosine);
        twin.add(row, one, x(row, one) * cosine - x(row, two) * sine, size);
        twin.add(row, two, x(row, one) * sine + x(row, two) * cosine, other_size);
      }
  return twin;
}

double plain_frequency(const Case& c, std::int64_t pair) {
  return 1 / std::pow(c.angles.theta, 2 * static_cast<double>(pair) / static_cast<double>(c.width));
}

/// A cosine or sine, a product and their sum: each rounded once.
constexpr double roundings = 3.01;

} // namespace

TEST_CASE("Rotated pairs agree with float64 of halves or neighbours from any place on") {
  for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::neighbours})
    for (const std::int64_t width : {2, 6, 64})
      for (const std::int64_t first : {0, 1, 4000}) {
        const Case c{.width = width, .first = first, .pairs = pairs};
        const FloatMatrix x = input(c, {.padding = 3});
        FloatMatrix y(x.view.rows, x.view.cols, 2, {.shift = 4, .padding = 1});
        rotate(x.view, c, y.view);
        INFO(static_cast<int>(pairs), " ", width, " ", first);
        CHECK(error_in_units(y.view, exact_rotation(x, c, [&](std::int64_t pair) {
                               return plain_frequency(c, pair);
                             })) <= roundings);
        CHECK(y.padding_untouched());
      }
}

TEST_CASE("Another base turns otherwise and the first token of a sequence stays as it is") {
  const Case c{.angles = {.theta = 500000}};
  const FloatMatrix x = input(c);
  FloatMatrix y(x.view.rows, x.view.cols, 2);
  rotate(x.view, c, y.view);
  CHECK(error_in_units(y.view, exact_rotation(x, c, [&](std::int64_t pair) {
                         return plain_frequency(c, pair);
                       })) <= roundings);
  for (const std::int64_t row : {std::int64_t{0}, c.tokens})
    CHECK(same_bits(ConstMatrix(y.view).rows_from(row, 1), ConstMatrix(x.view).rows_from(row, 1)));
  FloatMatrix of_ten_thousand(x.view.rows, x.view.cols, 2);
  rotate(x.view, Case{}, of_ten_thousand.view);
  CHECK_FALSE(same_bits(of_ten_thousand.view, y.view));
}

TEST_CASE("A sequence in parts is the sequence at once, bit for bit") {
  const Case whole{.sequences = 1, .tokens = 9};
  const FloatMatrix x = input(whole);
  FloatMatrix y(9, x.view.cols, 2);
  rotate(x.view, whole, y.view);
  FloatMatrix parts(9, x.view.cols, 3);
  Case part{.sequences = 1, .tokens = 4};
  rotate(x.view.rows_from(0, 4), part, parts.view.rows_from(0, 4));
  part.first = 4;
  part.tokens = 5;
  rotate(x.view.rows_from(4, 5), part, parts.view.rows_from(4, 5));
  CHECK(same_bits(parts.view, y.view));
}

TEST_CASE("Rotation in place and at any address has the same bits and allocates nothing") {
  for (const RotaryPairs pairs : {RotaryPairs::halves, RotaryPairs::neighbours}) {
    const Case c{.width = 10, .first = 3, .pairs = pairs};
    const FloatMatrix x = input(c);
    FloatMatrix y(x.view.rows, x.view.cols, 2);
    FloatMatrix in_place = input(c, {.shift = 20, .padding = 2});
    const ExactScratch room(rotary_scratch_bytes(c.width));
    const AllocationProbe probe;
    rotate_sequences(x.view, c.tokens, c.first, c.width, c.angles, c.pairs, y.view, room.scratch());
    rotate_sequences(in_place.view, c.tokens, c.first, c.width, c.angles, c.pairs, in_place.view,
                     room.scratch());
    const auto taken = probe.count();
    CHECK(taken == 0);
    CHECK(same_bits(in_place.view, y.view));
    CHECK(in_place.padding_untouched());
  }
}

// Written from the rotations that a pair makes within the original context, as the Llama 3.1 report explains it:
// more than high_factor of them stay, fewer than low_factor are slowed down, between them a blend.
TEST_CASE("Llama 3.1 slows long waves down") {
  const Case c{.sequences = 1,
               .tokens = 6,
               .heads = 1,
               .width = 128,
               .first = 20000,
               .angles = {.theta = 500000, .factor = 8}};
  std::int64_t kept = 0;
  std::int64_t blended = 0;
  std::int64_t slowed = 0;
  const auto frequency = [&](std::int64_t pair) {
    const double plain = plain_frequency(c, pair);
    const double rotations = 8192 * plain / (2 * std::numbers::pi);
    if (rotations > 4) return ++kept, plain;
    if (rotations < 1) return ++slowed, plain / 8;
    const double share = (rotations - 1) / 3;
    return ++blended, plain * (share + (1 - share) / 8);
  };
  for (std::int64_t pair = 0; pair < 64; ++pair)
    CHECK(c.angles.frequency(pair, 128) == doctest::Approx(frequency(pair)).epsilon(1e-13));
  CHECK(kept == 29); // so many pairs of a released head of 128 are of each kind
  CHECK(blended == 6);
  CHECK(slowed == 29);

  const FloatMatrix x = input(c);
  FloatMatrix y(6, 128, 2);
  rotate(x.view, c, y.view);
  CHECK(error_in_units(y.view, exact_rotation(x, c, frequency)) <= roundings);
}

TEST_CASE("Three places turn parts of a head each") {
  const RotaryAxes axes{.widths = {4, 6, 2}, .theta = 300};
  const auto place = [](std::int64_t row, int axis) {
    return static_cast<double>((row + 1) * (axis + 2)) / 3; // any number, also between tokens
  };
  const FloatMatrix x(7, 2 * 12, 1, {.padding = 1});
  FloatMatrix y(7, 2 * 12, 2);
  const ExactScratch room(rotary_scratch_bytes(12));
  rotate_by_axes(x.view, axes, y.view, room.scratch(), place);
  CHECK(room.guard_untouched());

  Twin twin(7, 24);
  for (std::int64_t row = 0; row < 7; ++row)
    for (std::int64_t col = 0; col < 24; col += 2) {
      const std::int64_t in_head = col % 12;
      const int axis = in_head < 4 ? 0 : in_head < 10 ? 1 : 2;
      const std::int64_t starts[] = {0, 4, 10};
      const double power = static_cast<double>(in_head - starts[axis]) /
                           static_cast<double>(axes.widths[static_cast<std::size_t>(axis)]);
      const double angle = place(row, axis) / std::pow(300.0, power);
      const double a = x(row, col);
      const double b = x(row, col + 1);
      twin.add(row, col, a * std::cos(angle) - b * std::sin(angle),
               std::abs(a * std::cos(angle)) + std::abs(b * std::sin(angle)));
      twin.add(row, col + 1, a * std::sin(angle) + b * std::cos(angle),
               std::abs(a * std::sin(angle)) + std::abs(b * std::cos(angle)));
    }
  CHECK(error_in_units(y.view, twin) <= roundings);
}

TEST_CASE("Rotation has the same bits with any number of threads") {
  const Case c{.sequences = 3, .tokens = 100, .heads = 8, .width = 64, .first = 7};
  const FloatMatrix x = input(c);
  FloatMatrix alone(x.view.rows, x.view.cols, 2);
  rotate(x.view, c, alone.view);
  for (const int threads : {2, 3, 5}) {
    Team team(threads, rotary_scratch_bytes(c.width));
    FloatMatrix y(x.view.rows, x.view.cols, 3);
    rotate_sequences(x.view, c.tokens, c.first, c.width, c.angles, c.pairs, y.view, team.workers);
    CAPTURE(threads);
    CHECK(same_bits(y.view, alone.view));
  }
}
