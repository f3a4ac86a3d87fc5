// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/channels.hpp>
#include <tenon/layers/group_norm.hpp>
#include <tenon/layers/image_patches.hpp>
#include <tenon/layers/resample.hpp>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("GroupNorm on a device is the host's, of images and of tokens, in place as well") {
  for (const DType dtype : weight_dtypes)
    for (const std::int64_t groups : {1, 3, 12}) {
      StepCase one;
      one.input({2, 5, 7, 12}).weight(dtype, {12}).weight(dtype, {12}).output({2, 5, 7, 12});
      one.context.params = {.integers = {groups}, .reals = {1e-5f}};
      const std::vector<float> expected = one.on_host(&group_norm_step);
      CHECK(difference(one.on_device("GroupNorm"), expected) <= device_tolerance);
      CHECK(difference(one.over(0).on_device("GroupNorm"), expected) <= device_tolerance);
    }
}

TEST_CASE("ChannelsLast and ChannelsFirst on a device move what the host moves") {
  StepCase last;
  last.input({2, 3, 5, 7}).output({2, 5, 7, 3});
  CHECK(last.on_device("ChannelsLast") == last.on_host(&channels_step<true>));
  StepCase first;
  first.input({2, 4, 5, 7, 3}).output({2, 3, 4, 5, 7});
  CHECK(first.on_device("ChannelsFirst") == first.on_host(&channels_step<false>));
}

TEST_CASE("UpsampleNearest on a device is the host's, and frames stay") {
  StepCase one;
  one.input({2, 4, 3, 5, 7}).output({2, 4, 6, 10, 7});
  one.context.params.integers[0] = 2;
  CHECK(one.on_device("UpsampleNearest") == one.on_host(&upsample_nearest_step));
}

TEST_CASE("Unpatchify on a device is the host's, of images and of films") {
  StepCase image;
  image.input({2, 3 * 2, 2 * 4 * 3}).output({2, 3, 6, 8});
  image.context.params.integers = {3, 1, 2, 4};
  CHECK(image.on_device("Unpatchify") == image.on_host(&unpatchify_step));
  StepCase film;
  film.input({2, 2 * 3 * 2, 3 * 2 * 4 * 5}).output({2, 5, 6, 6, 8});
  film.context.params.integers = {5, 3, 2, 4};
  CHECK(film.on_device("Unpatchify") == film.on_host(&unpatchify_step));
}

TEST_CASE("AddCroppedTable on a device adds the table's middle, and refuses an image that is larger") {
  for (const DType dtype : weight_dtypes) {
    StepCase one;
    one.input({2, 3, 4, 5}).weight(dtype, {1, 49, 5}).output({2, 3, 4, 5});
    one.context.params.integers[0] = 7;
    const std::vector<float> expected = one.on_host(&add_cropped_table_step);
    CHECK(one.on_device("AddCroppedTable") == expected);
    CHECK(one.over(0).on_device("AddCroppedTable") == expected);
    one.context.params.integers[0] = 3;
    CHECK_THROWS_WITH_AS((void)one.on_device("AddCroppedTable"),
                         "positions: expected an image of at most 3 x 3 patches, got 3 x 4", shape_error);
  }
}
