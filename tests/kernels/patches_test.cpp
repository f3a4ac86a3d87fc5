// SPDX-License-Identifier: Apache-2.0
#include "support/naive.hpp"
#include "support/naive_convolution.hpp"

#include <tenon/kernels/patches.hpp>

#include <doctest/doctest.h>

#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// All patches, gathered `step` rows at a time into rows with a gap between them.
void check_grid(const PatchGrid& grid, std::int64_t step) {
  CAPTURE(grid.kernel.size());
  CAPTURE(grid.channels);
  CAPTURE(step);
  const FloatMatrix images(grid.batch * grid.image.size(), grid.channels, 3);
  const std::vector<float> zeros(static_cast<std::size_t>(grid.channels), 0.0f);
  FloatMatrix patches(grid.rows(), grid.cols(), 4, {.padding = 3});
  for (float& value : patches.view.row_span(0)) value = 0;
  for (std::int64_t i = 0; i < grid.rows(); i += step)
    gather_patches(images.view.data, grid, i, zeros.data(),
                   patches.view.rows_from(i, std::min(step, grid.rows() - i)));
  std::int64_t wrong = 0;
  for_each_patch_element(grid, images.view.data, [&](std::int64_t row, std::int64_t col, double value) {
    wrong += patches(row, col) == value ? 0 : 1;
  });
  CHECK(wrong == 0);
  CHECK(patches.padding_untouched());
}

} // namespace

TEST_CASE("Patches are the kernel's view of the image in the order of torch's weight") {
  for (const std::int64_t channels : {1, 3, 8, 17})
    for (const std::int64_t step : {1, 7, 1000}) {
      const auto check = [&](PatchGrid grid) {
        grid.channels = channels;
        grid.batch = 2;
        check_grid(grid, step);
      };
      check({.image = {1, 5, 6}, .kernel = {1, 3, 3}, .padding = {0, 1, 1}});
      check({.image = {1, 6, 4}, .kernel = {1, 3, 3}, .stride = {1, 2, 2}, .padding = {0, 1, 1}});
      check({.image = {1, 7, 5}, .kernel = {1, 5, 3}, .padding = {0, 2, 1}});
      check({.image = {1, 4, 4}, .kernel = 1});
      check({.image = {1, 4, 6}, .kernel = 1, .stride = {1, 2, 2}});
      check({.image = {1, 4, 6}, .kernel = {1, 2, 2}, .stride = {1, 2, 2}});
      check({.image = {1, 2, 2}, .kernel = {1, 5, 5}, .padding = {0, 4, 3}}); // nearly all is padding
      check({.image = {3, 4, 4}, .kernel = {1, 2, 2}, .stride = {1, 2, 2}});
      check({.image = {3, 4, 5}, .kernel = 3, .padding = 1});
    }
}

TEST_CASE("A kernel of more positions than are gathered together is gathered in parts") {
  check_grid({.image = {1, 16, 16}, .channels = 3, .kernel = {1, 8, 8}, .stride = {1, 8, 8}}, 4);
  check_grid({.image = {2, 9, 9}, .channels = 5, .kernel = {2, 7, 7}, .padding = {0, 3, 3}}, 50);
}

TEST_CASE("Positions of a kernel are those of torch") {
  static_assert(convolved(5, 3, 2, 1) == 3);
  static_assert(convolved(4, 3, 2, 1) == 2);
  static_assert(convolved(7, 3, 1, 1) == 7);
  static_assert(convolved(8, 2, 2, 0) == 4);
  static_assert(convolved(2, 5, 1, 1) == 0);
  static_assert(convolved(3, 5, 1, 1) == 1);
}

TEST_CASE("Only a kernel of one position without stride and padding takes images as they are") {
  static_assert(PatchGrid{.image = {1, 4, 4}}.are_rows());
  static_assert(!PatchGrid{.image = {1, 4, 4}, .stride = {1, 2, 2}}.are_rows());
  static_assert(!PatchGrid{.image = {1, 4, 4}, .padding = {0, 1, 1}}.are_rows());
  static_assert(!PatchGrid{.image = {1, 4, 4}, .kernel = {1, 1, 2}}.are_rows());
}
