// SPDX-License-Identifier: Apache-2.0
#include <tenon/graph/dims.hpp>

#include <doctest/doctest.h>

using namespace tenon;

namespace {

constexpr Dims call{
    .batch = 2, .tokens = 7, .context = 5, .image = 11, .frames = 3, .height = 8, .width = 12};

/// For what throws in a constant expression, and would be a constant expression otherwise.
template <class T>
T at_run_time(T value) {
  volatile bool taken = true;
  return taken ? value : T{};
}

} // namespace

TEST_CASE("Each named axis has its value of a call and its name") {
  static_assert(batch_dim.at(call) == 2 && tokens_dim.at(call) == 7 && context_dim.at(call) == 5);
  static_assert(frames_dim.at(call) == 3 && height_dim.at(call) == 8 && width_dim.at(call) == 12);
  static_assert(call.of(Axis::context) == 5 && call.of(Axis::width) == 12);
  static_assert(axis_name(Axis::context) == "context" && axis_name(Axis::image) == "image" &&
                axis_name(Axis::width) == "width");
  CHECK(image_dim.at(call) == 11);
  Dims dims;
  for (std::size_t axis = 1; axis < axis_names.size(); ++axis) CHECK(dims.of(static_cast<Axis>(axis)) == 1);
  for (std::size_t axis = 1; axis < axis_names.size(); ++axis)
    dims.at(static_cast<Axis>(axis)) = static_cast<std::int64_t>(axis * 10);
  for (std::size_t axis = 1; axis < axis_names.size(); ++axis) // each has a place of its own
    CHECK(dims.of(static_cast<Axis>(axis)) == static_cast<std::int64_t>(axis * 10));
}

TEST_CASE("Numbers are computed with as numbers") {
  static_assert(fixed(12) / 4 == fixed(3));
  static_assert(fixed(12) * 4 == fixed(48));
  static_assert(fixed(12) * fixed(4) == fixed(48));
  static_assert(fixed(12) + fixed(4) == fixed(16));
  static_assert(fixed(12).at(call) == 12 && fixed(12).is_fixed() && fixed(12).is_plain());
  CHECK_THROWS_WITH((void)(at_run_time(fixed(12)) / 5),
                    "tenon: a dimension of this net is divided by a number that does not divide it");
}

TEST_CASE("A named dimension is divided and multiplied, and made whole again") {
  static_assert((height_dim / 4).at(call) == 2);
  static_assert((height_dim * 4).at(call) == 32);
  static_assert((height_dim / 4 * 12).at(call) == 24);
  static_assert(height_dim / 2 / 2 == height_dim / 4 && height_dim * 2 * 2 == height_dim * 4);
  static_assert(height_dim / 4 * 2 == height_dim / 2 && height_dim * 4 / 2 == height_dim * 2);
  static_assert(height_dim / 4 * 4 == height_dim && height_dim * 4 / 4 == height_dim);
  static_assert(height_dim / 2 * 8 == height_dim * 4 && height_dim * 2 / 8 == height_dim / 4);
  static_assert(height_dim.is_plain() && !(height_dim / 2).is_plain() && !(height_dim * 2).is_plain());
  static_assert(!height_dim.is_fixed());
  static_assert((height_dim * 3 / 2).at({.height = 4}) == 6 && fixed(12) / 4 * 3 == fixed(9));
  static_assert(!(height_dim / 2 == width_dim / 2) && !(height_dim / 2 == height_dim));
  CHECK_THROWS_WITH((void)(at_run_time(tokens_dim + context_dim) * 2),
                    "tenon: only a dimension of one named axis can be multiplied");
  static_assert((tokens_dim + fixed(1)) * 1 == tokens_dim + fixed(1));
  static_assert((tokens_dim + fixed(1)) / 1 == tokens_dim + fixed(1));
  CHECK_THROWS_WITH((void)(at_run_time(tokens_dim + context_dim) / 2),
                    "tenon: only a dimension of one named axis can be divided");
  CHECK_THROWS_WITH((void)(at_run_time(tokens_dim + fixed(1)) / 2),
                    "tenon: only a dimension of one named axis can be divided");
  CHECK_THROWS_WITH((void)(at_run_time(height_dim * width_dim) / 2),
                    "tenon: only a dimension of one named axis can be divided");
}

TEST_CASE("Two dimensions laid out as one are their product") {
  static_assert((height_dim * width_dim).at(call) == 96);
  static_assert((height_dim / 2 * (width_dim / 4)).at(call) == 12);
  static_assert(fixed(1) * height_dim == height_dim && height_dim * fixed(1) == height_dim);
  static_assert(fixed(2) * (height_dim / 4) == height_dim / 2 && height_dim / 4 * fixed(2) == height_dim / 2);
  static_assert(!(height_dim * width_dim).is_plain());
  static_assert((height_dim * 2 * (width_dim / 4 * 3)).at(call) == 16 * 9);
  CHECK_THROWS_WITH((void)(at_run_time(height_dim * width_dim) * frames_dim),
                    "tenon: at most two named dimensions can be laid out as one");
  CHECK_THROWS_WITH((void)(at_run_time(frames_dim) * (height_dim * width_dim)),
                    "tenon: at most two named dimensions can be laid out as one");
  CHECK_THROWS_WITH((void)(at_run_time(tokens_dim + fixed(1)) * batch_dim),
                    "tenon: at most two named dimensions can be laid out as one");
}

TEST_CASE("Sequences one after the other are as long as both") {
  static_assert((tokens_dim + context_dim).at(call) == 12);
  static_assert((tokens_dim + fixed(1)).at(call) == 8);
  static_assert(fixed(1) + tokens_dim == tokens_dim + fixed(1));
  static_assert((tokens_dim + fixed(1) + fixed(2)).at(call) == 10);
  static_assert((tokens_dim + fixed(1) + context_dim).at(call) == 13);
  static_assert((tokens_dim + (context_dim + fixed(4))).at(call) == 16);
  static_assert((height_dim / 2 * (width_dim / 2) + context_dim).at(call) == 29);
  static_assert((context_dim + height_dim / 2 * (width_dim / 2)).at(call) == 29);
  static_assert((context_dim + fixed(3) + height_dim / 2).at(call) == 12);
  CHECK_THROWS_WITH(
      (void)(at_run_time(tokens_dim + context_dim) + frames_dim),
      "tenon: these two dimensions cannot be joined; one of them must be a named axis as it is, "
      "or a number");
  CHECK_THROWS_WITH(
      (void)(at_run_time(height_dim / 2) + width_dim / 2),
      "tenon: these two dimensions cannot be joined; one of them must be a named axis as it is, "
      "or a number");
}

TEST_CASE("A dimension reads as it was computed") {
  CHECK(dim_text(fixed(768)) == "768");
  CHECK(dim_text(batch_dim) == "batch");
  CHECK(dim_text(height_dim / 16) == "height/16");
  CHECK(dim_text(height_dim / 2 * (width_dim / 4)) == "height/2*width/4");
  CHECK(dim_text(height_dim * 8) == "height*8");
  CHECK(dim_text(height_dim / 2 * 3) == "height/2*3");
  CHECK(dim_text(height_dim * 3 / 2) == "height/2*3");
  CHECK(dim_text(height_dim * width_dim) == "height*width");
  CHECK(dim_text(tokens_dim + context_dim) == "tokens+context");
  CHECK(dim_text(tokens_dim + fixed(1)) == "tokens+1");
  CHECK(dim_text(height_dim / 2 * (width_dim / 2) + context_dim + fixed(3)) == "height/2*width/2+context+3");
}
