// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <doctest/doctest.h>

#include <thread>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("Two threads with two sessions over one model never see each other's adapters") {
  using Net = Encoder<8, 2>;
  Fixture<Net> f;
  const std::vector<std::int32_t> ids{1, 2, 3, 4, 5, 6};
  const Tensor mask({2, 3}, {1, 1, 1, 1, 1, 0});
  const auto answer = [&](const Adapter<Net>* adapter, bool is_merged) {
    Session session(f.model);
    std::optional<Guard> guard;
    if (adapter != nullptr && is_merged) guard.emplace(session.template plan<merged>(*adapter));
    if (adapter != nullptr && !is_merged) guard.emplace(session.plan(*adapter));
    return session(view(ids, {2, 3}), mask)[0];
  };
  const Tensor base = answer(nullptr, false);
  const std::array<Tensor, 2> expected{answer(&f.tone, false), answer(&f.other, true)};

  std::array<int, 2> wrong{};
  const auto work = [&](std::size_t me) {
    Session session(f.model, {.batch = 2, .tokens = 3});
    for (int cycle = 0; cycle < 200; ++cycle) {
      {
        std::optional<Guard> guard;
        if (me == 0)
          guard.emplace(session.plan(f.tone));
        else
          guard.emplace(session.plan<merged>(f.other));
        if (!(session(view(ids, {2, 3}), mask)[0] == expected[me])) ++wrong[me];
      }
      if (!(session(view(ids, {2, 3}), mask)[0] == base)) ++wrong[me];
    }
  };
  {
    const std::jthread one(work, 0);
    const std::jthread two(work, 1);
  }
  CHECK(wrong[0] == 0);
  CHECK(wrong[1] == 0);
}
