// SPDX-License-Identifier: Apache-2.0
#include "session/on_device.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A pass on a device is recorded once, and replayed for other inputs and other strengths") {
  OnDevice<Encoder<8, 3>> f;
  Session on_host(f.model);
  Session session(f.moved, {.batch = 2, .tokens = 4});
  session.record_passes();
  const Tensor mask({2, 4}, std::vector<float>(8, 1.0f));
  std::vector<std::int32_t> ids{1, 2, 3, 4, 10, 9, 8, 7};
  const TensorView tokens(ids.data(), DType::i32, std::array<std::int64_t, 2>{2, 4});
  const auto same = [&] { return session(tokens, mask)[0] == on_host(tokens, mask)[0]; };
  const auto recorded = [&] { return session.device_counts().recordings; };
  const auto replayed = [&] { return session.device_counts().replays; };
  CHECK(same()); // as it is
  CHECK(recorded() == 0);
  for (int i = 1; i <= 3; ++i) {
    ids[0] = i;
    CHECK(same());
    CHECK(recorded() == 1);
    CHECK(replayed() == i);
  }
  {
    Guard there = session.attach(f.tone);
    Guard here = on_host.attach(f.tone);
    for (int i = 0; i < 3; ++i) CHECK(same());
    CHECK(recorded() == 2);
    const std::int64_t before = replayed();
    for (const double factor : {0.5, -3.0}) {
      there.rescale(factor);
      here.rescale(factor);
      CHECK(same());
    }
    CHECK(recorded() == 2);
    CHECK(replayed() == before + 2);
  }
  for (int i = 0; i < 3; ++i) CHECK(same());
  CHECK(recorded() == 3);
  const Tensor short_mask({1, 4}, std::vector<float>(4, 1.0f));
  const TensorView less(ids.data(), DType::i32, std::array<std::int64_t, 2>{1, 4});
  CHECK(session(less, short_mask)[0] == on_host(less, short_mask)[0]);
  CHECK(recorded() == 3);
  session.record_passes(false);
  for (int i = 0; i < 3; ++i) CHECK(same());
  CHECK(recorded() == 3);
}

TEST_CASE("A recording that fails leaves nothing recorded") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  session.record_passes();
  const Tensor x = ramp({4, 6});
  const Tensor base = session(x);
  f.gpu->fail_after = 3; // the input's upload, the beginning, a step
  CHECK_THROWS_AS((void)session(x), error);
  CHECK(session.device_counts().recordings == 0);
  CHECK(session(x) == base);
  CHECK(session(x) == base);
  CHECK(session.device_counts().recordings == 1);
}
