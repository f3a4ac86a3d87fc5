// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Linear<"w", 512, 256>;

} // namespace

TEST_CASE("A plan counts operations and memory traffic from shapes") {
  Fixture<Net> f; // tone has rank 4, other 3
  Session session(f.model);
  const AttachPlan side = session.plan(f.tone, f.other);
  CHECK(side.cost.flops == 0);
  CHECK(side.cost.bytes_read == 0);
  CHECK(side.cost.bytes_written == 0);
  CHECK(side.cost.flops_per_row == 2 * (4 + 3) * (512 + 256));
  const AttachPlan overlay = session.plan<merged>(f.tone, f.other);
  CHECK(overlay.cost.flops == 2 * (4 + 3) * 512 * 256);
  CHECK(overlay.cost.bytes_read == 512 * 256 * 4 + (4 + 3) * (512 + 256) * 4);
  CHECK(overlay.cost.bytes_written == 512 * 256 * 4);
  CHECK(overlay.cost.flops_per_row == 0);
  CHECK(overlay.bytes[Category::overlay] == 512 * 256 * 4);
  const Guard below = session.attach<merged>(f.tone); // its terms are merged again under the next overlay
  CHECK(session.plan<merged>(f.other).cost.flops == 2 * (4 + 3) * 512 * 256);
}

TEST_CASE("Automatic takes the side path until a merge pays, and says why") {
  Fixture<Net> f;
  Session session(f.model);
  const AttachPlan side = session.plan(f.tone);
  const std::int64_t rows = break_even_rows(side, session.plan<merged>(f.tone));
  // (2 r in out + 8 (2 W + factors)) / (2 r (in + out))
  CHECK(rows == (2 * 4 * 512 * 256 + 8 * (2 * 512 * 256 * 4 + 4 * 768 * 4) + 6143) / 6144);
  {
    const Guard guard = session.attach<automatic>(f.tone, Expect{.rows = rows - 1});
    CHECK(guard.mode() == AttachMode::side_path);
    CHECK(guard.plan().reason ==
          concat("side path: ", rows - 1, " rows expected, and merging (merged) pays from ", rows, " on"));
  }
  {
    const Guard guard = session.attach<automatic>(f.tone, 0.5, Expect{.rows = rows});
    CHECK(guard.mode() == AttachMode::merged);
    CHECK(guard.plan().reason ==
          concat("merged: ", rows, " rows expected, and merging pays from ", rows, " on"));
  }
  const Guard guard = session.attach<automatic>(f.tone); // nothing expected
  CHECK(guard.mode() == AttachMode::side_path);
}

TEST_CASE("Automatic rounds 16-bit weights only where that is accepted") {
  Fixture<Net> f(DType::bf16);
  Session session(f.model);
  const AttachPlan careful = session.plan<automatic>(f.tone, Expect{.rows = 1'000'000});
  CHECK(careful.mode == AttachMode::side_path);
  CHECK(careful.reason ==
        "side path: a merge would round BF16 weights, and Expect::accept_rounding is not set");
  CHECK(session.plan<automatic>(f.tone, Expect{.rows = 1'000'000, .accept_rounding = true}).mode ==
        AttachMode::merged);
}

TEST_CASE("Automatic stays within the budget: the side path, or in place where the model allows it") {
  Fixture<Net> f;
  const Expect many{.rows = 1'000'000};
  {
    Session session(f.model);
    f.ledger.set_budget(f.ledger.current().budgeted() + 10'000);
    const Guard guard = session.attach<automatic>(f.tone, many);
    CHECK(guard.mode() == AttachMode::side_path);
    CHECK(guard.plan().reason == "side path: overlays of 512.0 KiB do not fit the budget");
    f.ledger.set_budget(-1);
  }
  const auto owned =
      open<Net>(f.folder.file("model.safetensors"), {.ledger = &f.ledger, .own_weights = true});
  Session session(owned);
  f.ledger.set_budget(f.ledger.current().budgeted() + 10'000);
  {
    const Guard guard = session.attach<automatic>(f.tone, many);
    CHECK(guard.mode() == AttachMode::in_place);
  }
  {
    const AttachPlan plan = session.plan<in_place>(f.tone);
    const AttachPlan side = session.plan(f.tone);
    CHECK(break_even_rows(side, plan) > break_even_rows(side, session.plan<merged>(f.tone)));
  }
  f.ledger.set_budget(f.ledger.current().budgeted() + 10'000'000);
  Session other(owned);
  CHECK(session.plan<automatic>(f.tone, many).mode == AttachMode::merged);
}

TEST_CASE("Overlays that are kept make room for an automatic merge") {
  Fixture<Net> f;
  Session session(f.model);
  session.keep_overlays(1 * MiB);
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  f.ledger.set_budget(f.ledger.current().budgeted() + 10'000);
  const Guard guard = session.attach<automatic>(f.tone, Expect{.rows = 1'000'000});
  CHECK(guard.mode() == AttachMode::merged);
}

TEST_CASE("What an automatic attach did is what its plan said, to the byte") {
  Fixture<Net> f;
  Session session(f.model);
  for (const std::int64_t rows : {0, 1'000'000}) {
    const AttachPlan plan = session.plan<automatic>(f.tone, f.other, Expect{.rows = rows});
    const PeakScope peak(f.ledger);
    const Guard guard = session.attach<automatic>(f.tone, f.other, Expect{.rows = rows});
    CHECK(guard.bytes() == plan.bytes);
    CHECK(peak.peak_above_start() == plan.bytes.total());
  }
}
