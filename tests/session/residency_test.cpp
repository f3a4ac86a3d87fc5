// SPDX-License-Identifier: Apache-2.0
#include "session/on_device.hpp"
#include "support/cycles.hpp"

#include <tenon/session/residency.hpp>

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("Only what is named moves: an adapter's own bytes, once, when it is loaded or attached") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  CHECK(session.adapter_copies().upload_bytes == 0);
  std::int64_t tone = 0;
  for (const AdapterPiece& piece : adapter_pieces(*f.tone.data())) tone += piece.bytes;
  std::int64_t other = 0;
  for (const AdapterPiece& piece : adapter_pieces(*f.other.data())) other += piece.bytes;
  CHECK(tone == (6 + 10 + 10 + 6) * 4 * 4); // A and B of both layers, rank 4

  session.load(f.tone);
  CHECK(session.is_resident(f.tone));
  CHECK_FALSE(session.is_resident(f.other));
  CHECK(session.adapter_copies().upload_bytes == tone);
  CHECK(f.memory().current()[Category::adapter] == bytes_of(adapter_pieces(*f.tone.data())));
  session.load(f.tone);
  session.prefetch(f.tone);
  {
    const Guard first = session.attach(f.tone);
    const Guard second = session.attach<merged>(f.tone, 0.5);
    CHECK(session.adapter_copies().upload_bytes == tone);
    const Guard third = session.attach(f.other);
    CHECK(session.adapter_copies().upload_bytes == tone + other);
    const Guard fourth = session.attach(f.other, -1);
    CHECK(session.adapter_copies().upload_bytes == tone + other);
    static_cast<void>(session(ramp({3, 6})));
    CHECK(session.adapter_copies().upload_bytes == tone + other);
  }
  CHECK_FALSE(session.is_resident(f.other)); // which only guards had
  CHECK(session.is_resident(f.tone));
  session.evict(f.tone);
  CHECK_FALSE(session.is_resident(f.tone));
  CHECK(f.memory().current()[Category::adapter] == 0);
  session.evict(f.tone); // again is nothing
}

TEST_CASE("An adapter that is attached is not evicted") {
  OnDevice<Mlp> f;
  Session session(f.moved);
  session.load(f.tone);
  const Guard guard = session.attach(f.tone);
  CHECK_THROWS_WITH_AS(session.evict(f.tone), "evict: this adapter is attached; end its guards first", error);
  CHECK(session.is_resident(f.tone));
}

TEST_CASE("Passes, loads and evictions leave a device's memory as it was") {
  OnDevice<Encoder<8, 3>> f;
  Session session(f.moved, {.batch = 2, .tokens = 4});
  const Tensor mask({2, 4}, std::vector<float>(8, 1.0f));
  const std::vector<std::int32_t> ids{1, 2, 3, 4, 10, 9, 8, 7};
  const TensorView tokens(ids.data(), DType::i32, std::array<std::int64_t, 2>{2, 4});
  const Tensor base = session(tokens, mask)[0];
  Session on_host(f.model);
  CHECK(base == on_host(tokens, mask)[0]);
  const Held held(f);
  for (int i = 0; i < cycles(2000); ++i) {
    session.prefetch(f.tone);
    {
      const Guard guard = session.attach(f.tone, 0.01 * i);
      static_cast<void>(session.run(tokens, mask));
    }
    session.evict(f.tone);
  }
  CHECK(Held(f) == held);
  CHECK(session(tokens, mask)[0] == base);
}
