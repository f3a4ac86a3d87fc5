// SPDX-License-Identifier: Apache-2.0
// What sessions on a device promise beside the numbers: budgets, failures, and no trace after ten thousand adapters.
#include <doctest/doctest.h>

#include <support/cycles.hpp>
#include <support/device_pair.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

constexpr std::int64_t ids_shape[] = {2, 4};

/// Inputs of an Encoder.
struct Sentences {
  std::vector<std::int32_t> ids{1, 2, 3, 4, 10, 9, 8, 7};
  Tensor mask = Tensor({2, 4}, std::vector<float>(8, 1.0f));

  [[nodiscard]] TensorView tokens() const { return {ids.data(), DType::i32, ids_shape}; }
};

} // namespace

TEST_CASE("A device's budget refuses an attach whole: weights, outputs and what is held are as they were") {
  RandomPair<Repeat<"layer", 2, Mlp>> c;
  const Tensor x = ramp({5, 6});
  const Tensor base = c.session(x);
  in_each_mode([&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    const BytesByCategory on_host = c.ledger.current();
    const BytesByCategory there = c.memory().current();
    const std::uint64_t generation = c.session.adapter_generation();
    const std::int64_t needed = c.session.template plan<Mode>(c.tone, c.other).device_bytes.total();
    REQUIRE(needed > 0);
    for (std::int64_t eighth = 1; eighth <= 8; ++eighth) {
      const std::int64_t room = needed * eighth / 8 - 1;
      c.memory().set_budget(there.budgeted() + room);
      CHECK_THROWS_AS((void)c.session.template attach<Mode>(c.tone, c.other), budget_error);
      CHECK(c.memory().current() == there);
      CHECK(c.ledger.current() == on_host);
      CHECK(c.session.adapter_generation() == generation);
      CHECK(c.session(x) == base);
      CHECK(c.has_pristine_weights());
    }
    c.memory().set_budget(there.budgeted() + needed);
    {
      const Guard guard = c.session.template attach<Mode>(c.tone, c.other);
      CHECK_FALSE(c.session(x) == base);
    }
    c.memory().set_budget(-1);
    CHECK(c.memory().current() == there);
    CHECK(c.session(x) == base);
  });
}

TEST_CASE("A model that the device's budget has no room for is refused, and nothing is held") {
  RandomPair<Mlp> c;
  Ledger ledger;
  Ledger& there = ledger.on_device(test_device().memory(), test_device().name());
  there.set_budget(100);
  const std::string path = c.file("model.safetensors");
  CHECK_THROWS_AS((void)(open<Mlp, on_device>(path, {.ledger = &ledger})), budget_error);
  CHECK(there.current() == BytesByCategory{});
  CHECK(ledger.current() == BytesByCategory{});
  there.set_budget(-1);
  const auto model = open<Mlp, on_device>(path, {.ledger = &ledger});
  there.set_budget(there.current().budgeted());
  CHECK_THROWS_AS((void)(Session<Mlp, on_device>(model)), budget_error);
  CHECK(there.current()[Category::workspace] == 0);
}

TEST_CASE("An id outside its table is an error that names the op, and the session computes as before") {
  RandomPair<Encoder<8, 3>> c;
  const Sentences s;
  const Tensor base = c.session(s.tokens(), s.mask)[1];
  for (const std::int32_t wrong : {-1, 11, 1 << 30}) {
    Sentences bad;
    bad.ids[5] = wrong;
    try {
      (void)c.session.run(bad.tokens(), bad.mask);
      FAIL("the id was taken");
    } catch (const error& why) {
      CHECK(why.code() == ErrorCode::bad_argument);
      CHECK(std::string(why.what()) ==
            "Embedding words: an input has a value that it cannot take (an id outside its table)");
    }
    CHECK(c.session(s.tokens(), s.mask)[1] == base);
  }
  const Guard guard = c.session.attach(c.tone);
  Sentences bad;
  bad.ids[0] = 11;
  CHECK_THROWS_AS((void)c.session.run(bad.tokens(), bad.mask), error);
  CHECK_FALSE(c.session(s.tokens(), s.mask)[1] == base);
}

TEST_CASE(
    "A pass waits for the device once and brings back the outputs alone, and an adapter's bytes move once") {
  RandomPair<Mlp> c;
  const Tensor x = ramp({5, 6});
  static_cast<void>(c.session.run(x));
  c.session.load(c.tone);
  const DeviceCounts copies = c.session.adapter_copies();
  CHECK(copies.upload_bytes == (6 + 10 + 10 + 6) * 4 * 4); // A and B of both layers, rank 4
  const Guard guard = c.session.attach(c.tone);
  const DeviceCounts before = c.session.device_counts();
  static_cast<void>(c.session.run(x));
  const DeviceCounts first = c.session.device_counts();
  static_cast<void>(c.session.run(x));
  const DeviceCounts after = c.session.device_counts();
  CHECK(first.waits - before.waits == 1);
  CHECK(after.waits - first.waits == 1);
  CHECK(after.steps - first.steps == 3);
  CHECK(after.upload_bytes - first.upload_bytes == 5 * 6 * 4);
  CHECK(after.download_bytes - first.download_bytes == 5 * 6 * 4 + 4); // and whether a step failed
  CHECK(c.session.adapter_copies() == copies);
}

TEST_CASE("A pass on a device is recorded once, and replayed for other inputs and other strengths") {
  RandomPair<Encoder<8, 3>> c;
  c.session.record_passes();
  Sentences s;
  const auto check = [&](int passes) {
    for (int i = 0; i < passes; ++i) {
      s.ids[2] = i;
      CHECK(c.error(s.tokens(), s.mask) <= device_tolerance);
    }
  };
  check(1);
  CHECK(c.session.device_counts().recordings == 0);
  check(3);
  CHECK(c.session.device_counts().recordings == 1);
  CHECK(c.session.device_counts().replays == 3);
  in_each_mode([&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    RandomPair<Encoder<8, 3>>::Both<Mode> both(c, c.tone);
    check(3);
    both.rescale(-0.5);
    check(3);
  });
  check(3);
  s.ids[0] = 11;
  CHECK_THROWS_AS((void)c.session.run(s.tokens(), s.mask), error);
  s.ids[0] = 1;
  check(2);
}

TEST_CASE("Ten thousand adapters loaded, attached, run and evicted leave a device's memory as it was") {
  RandomPair<Encoder<8, 3>> c;
  const Sentences s;
  const Tensor base = c.session(s.tokens(), s.mask)[0];
  const auto cycle = [&](int i) {
    const Adapter<Encoder<8, 3>>& adapter = i % 3 == 0 ? c.other : c.tone;
    if (i % 2 == 0)
      c.session.prefetch(adapter);
    else
      c.session.load(adapter);
    if (i % 5 == 4) {
      const Guard guard = c.session.template attach<merged>(adapter, 0.001 * i);
      static_cast<void>(c.session.run(s.tokens(), s.mask));
    } else {
      const Guard guard = c.session.attach(adapter, 0.001 * i);
      static_cast<void>(c.session.run(s.tokens(), s.mask));
    }
    c.session.evict(adapter);
  };
  for (int i = 0; i < 30; ++i) cycle(i);
  const BytesByCategory there = c.memory().current();
  const std::int64_t peak = c.memory().peak_total();
  const BytesByCategory on_host = c.ledger.current();
  const int count = std::max(cycles(10'000), 30);
  for (int i = 30; i < count; ++i) cycle(i);
  CHECK(c.memory().current() == there);
  CHECK(c.memory().peak_total() == peak);
  BytesByCategory now = c.ledger.current();
  CHECK(now[Category::scratch] <= on_host[Category::scratch] + 64 * KiB); // lanes' second staging blocks
  now[Category::scratch] = on_host[Category::scratch];
  CHECK(now == on_host);
  CHECK(c.session(s.tokens(), s.mask)[0] == base);
  CHECK(c.has_pristine_weights());
}
