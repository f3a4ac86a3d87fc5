// SPDX-License-Identifier: Apache-2.0
// A session's other products: inputs rounded to bfloat16.
#include "session/fixture.hpp"

#include "support/allocation_probe.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Sequential<Linear<"up", 70, 130>, Gelu, Linear<"down", 130, 50>>;

} // namespace

TEST_CASE(
    "A session that rounds inputs to bfloat16 is near one that does not, with every adapter as without") {
  const bool can = kernels::vector_kernels().multiply_pairs != nullptr;
  const Fixture<Net> f(DType::bf16);
  Session own(f.model);
  Session session(f.model);
  session.use_products(&bf16_products);
  const auto compare = [&](std::int64_t rows) {
    const Tensor x = ramp({rows, 70});
    const double error = relative_error(session(x).values(), own(x).values());
    CAPTURE(rows);
    CHECK(error < 0x1p-7); // two layers, each input off by at most 2^-9
    CHECK((error > 0) == (can && rows > 8));
  };
  for (const int threads : {1, 2}) {
    session.use_threads(threads);
    for (const std::int64_t rows : {1, 8, 9, 200}) {
      compare(rows);
      const Guard side = session.attach(f.tone);
      const Guard own_side = own.attach(f.tone);
      compare(rows);
      const Guard overlay = session.attach<merged>(f.other);
      const Guard own_overlay = own.attach<merged>(f.other);
      compare(rows);
    }
  }
  session.use_products(nullptr);
  const Tensor x = ramp({200, 70});
  CHECK(session(x) == own(x));
}

TEST_CASE("Rounded products allocate nothing, and weights of other types are multiplied as ever") {
  const Fixture<Net> f(DType::bf16);
  Session session(f.model);
  session.use_products(&bf16_products);
  const Tensor x = ramp({300, 70});
  session.run(x);
  const AllocationProbe probe;
  session.run(x);
  CHECK(probe.count() == 0);
  const Fixture<Net> floats;
  Session own(floats.model);
  Session same(floats.model);
  same.use_products(&bf16_products);
  CHECK(same(x) == own(x));
}
