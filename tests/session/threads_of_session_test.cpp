// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

using Wide = Sequential<Linear<"up", 300, 700>, Gelu, Linear<"down", 700, 300>, LayerNorm<"norm", 300>>;

} // namespace

TEST_CASE("Forward passes and attaches have the same bits with any number of threads") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(dtype_name(dtype));
    Fixture<Wide> f(dtype);
    for (const std::int64_t rows : {1, 70}) {
      CAPTURE(rows);
      const Tensor x = ramp({rows, 300});
      const auto outputs = [&](int threads) {
        Session session(f.model);
        session.use_threads(threads);
        CHECK(session.threads() == threads);
        std::vector<Tensor> all{session(x)};
        {
          const Guard side = session.attach(f.tone, f.other);
          all.push_back(session(x));
        }
        const Guard overlay = session.attach<merged>(f.tone, f.other);
        all.push_back(session(x));
        return all;
      };
      const std::vector<Tensor> alone = outputs(1);
      for (const int threads : {2, 3}) {
        CAPTURE(threads);
        const std::vector<Tensor> together = outputs(threads);
        for (std::size_t i = 0; i < alone.size(); ++i) CHECK(together[i] == alone[i]);
      }
    }
  }
}

TEST_CASE("Each thread of a session has scratch of its own, and the ledger knows") {
  Fixture<Wide> f;
  Session session(f.model, {.tokens = 20});
  const std::int64_t one = session.scratch_bytes();
  CHECK(one > 0);
  session.use_threads(3);
  CHECK(session.scratch_bytes() == 3 * one);
  CHECK(f.ledger.current()[Category::scratch] == 3 * one);
  session.use_threads(1);
  CHECK(session.scratch_bytes() == one);
  CHECK(f.ledger.current()[Category::scratch] == one);
}

TEST_CASE("Threads that do not fit the budget are refused, and the session goes on with those it has") {
  Fixture<Wide> f;
  Session session(f.model, {.tokens = 20});
  const Tensor x = ramp({20, 300});
  const Tensor y = session(x);
  const BytesByCategory held = f.ledger.current();
  f.ledger.set_budget(held.budgeted() + 1000);
  CHECK_THROWS_AS(session.use_threads(2), budget_error);
  CHECK_THROWS_AS(session.use_threads(0), error);
  CHECK(session.threads() == 1);
  CHECK(f.ledger.current() == held);
  CHECK(session(x) == y);
}

TEST_CASE("A forward pass of several threads allocates nothing") {
  Fixture<Wide> f;
  Session session(f.model, {.tokens = 70});
  session.use_threads(2);
  const Tensor x = ramp({70, 300});
  session.run(x);
  const AllocationProbe probe;
  session.run(x);
  const std::int64_t taken = probe.count();
  CHECK(taken == 0);
}
