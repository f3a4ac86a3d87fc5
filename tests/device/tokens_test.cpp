// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "support/step_case.hpp"

#include <tenon/layers/join.hpp>
#include <tenon/layers/tokens.hpp>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("LastToken on a device is the last of each sequence") {
  StepCase one;
  one.input({3, 4, 5}).output({3, 5});
  CHECK(one.on_device("LastToken") == one.on_host(&last_token_step));
}

TEST_CASE("TokenAt on a device finds the first token with an id, or with the largest") {
  const std::vector<std::int32_t> ids{9, 2, 7, 9, 1, 7, 7, 3, 0, 0, 0, 7};
  for (const std::int64_t wanted : {-1, 7}) {
    StepCase one;
    one.input({3, 4, 5}).ids({3, 4}, ids).output({3, 5});
    one.context.params.integers[0] = wanted;
    CHECK(one.on_device("TokenAt") == one.on_host(&token_at_step));
    CHECK(one.fault == 0);
  }
}

TEST_CASE("A device's TokenAt reports a sequence without the id as its step's fault and takes token 0") {
  StepCase one;
  one.input({2, 2, 3}).ids({2, 2}, {1, 5, 2, 3}).output({2, 3});
  one.context.params.integers[0] = 5;
  one.context.number = 6;
  const std::vector<float> y = one.on_device("TokenAt");
  CHECK(one.fault == 7);
  CHECK(std::ranges::equal(std::span(y).subspan(3), one.context.inputs[0].values().subspan(6, 3)));
}

TEST_CASE("PrependToken and AddTable on a device have the host's bits") {
  for (const DType dtype : weight_dtypes) {
    StepCase prepend;
    prepend.input({3, 4, 5}).weight(dtype, {1, 1, 5}).output({3, 5, 5});
    CHECK(prepend.on_device("PrependToken") == prepend.on_host(&prepend_token_step));
    StepCase add;
    add.input({3, 4, 5}).weight(dtype, {1, 4, 5}).output({3, 4, 5});
    const std::vector<float> expected = add.on_host(&add_table_step);
    CHECK(add.on_device("AddTable") == expected);
    CHECK(add.over(0).on_device("AddTable") == expected);
  }
}

TEST_CASE("JoinTokens and JoinChannels on a device put wires side by side, with and without a batch") {
  StepCase batch;
  batch.input({3, 4, 5}).input({3, 2, 5}).output({3, 6, 5});
  CHECK(batch.on_device("JoinTokens") == batch.on_host(&join_tokens_step));
  StepCase plain;
  plain.input({4, 5}).input({2, 5}).output({6, 5});
  CHECK(plain.on_device("JoinTokens") == plain.on_host(&join_tokens_step));
  StepCase channels;
  channels.input({3, 4, 5}).input({3, 4, 2}).output({3, 4, 7});
  CHECK(channels.on_device("JoinChannels") == channels.on_host(&join_channels_step));
}

TEST_CASE("FirstTokens and LastTokens on a device take as many as they give") {
  for (const bool is_last : {false, true}) {
    StepCase one;
    one.input({3, 6, 5}).output({3, 2, 5});
    one.context.params.integers[0] = is_last ? 1 : 0;
    CHECK(one.on_device(is_last ? "LastTokens" : "FirstTokens") == one.on_host(&take_tokens_step));
  }
}
