// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("The workspace is what activation_bytes promised for the same dimensions") {
  using Net = Encoder<8, 3>;
  Fixture<Net> f;
  for (const Dims& dims : {Dims{1, 1}, Dims{2, 7}, Dims{5, 33}}) {
    const BytesByCategory before = f.ledger.current();
    Session session(f.model, dims);
    CHECK(session.activation_bytes() == activation_bytes<Net>(dims));
    CHECK(f.ledger.current()[Category::workspace] - before[Category::workspace] ==
          activation_bytes<Net>(dims));
  }
  static_assert(activation_bytes<Net>({.batch = 2, .tokens = 7}) > 0);
}

TEST_CASE("A session gives its bytes back when it ends") {
  Fixture<Mlp> f;
  const BytesByCategory start = f.ledger.current();
  {
    Session session(f.model, {.tokens = 100});
  }
  CHECK(f.ledger.current() == start);
}

TEST_CASE("A larger forward pass grows the workspace first and a smaller one uses what is there") {
  Fixture<Mlp> f;
  Session session(f.model, {.tokens = 4});
  const std::int64_t reserved = session.activation_bytes();
  (void)session(ramp({3, 6}));
  CHECK(session.activation_bytes() == reserved);
  (void)session(ramp({9, 6}));
  CHECK(session.activation_bytes() == activation_bytes<Mlp>({.tokens = 9}));
}

TEST_CASE("Rows do not depend on how many stand beside them") {
  Fixture<Mlp> f;
  Session session(f.model);
  const Tensor all = ramp({7, 6});
  const Tensor y = session(all);
  for (std::int64_t i = 0; i < 7; ++i) {
    const Tensor one = session(view(all.row(i), {1, 6}));
    CHECK(relative_error(one.values(), y.row(i)) < 1e-6); // kernels for one row add in another order
  }
}

TEST_CASE("A padded batch gives what its sentences give alone") {
  using Net = Encoder<8, 2>;
  Fixture<Net> f;
  Session session(f.model);
  const std::vector<std::int32_t> ids{1, 2, 3, 4, 5, 6, 7, 0, 0, 0};
  const Tensor mask({2, 5}, {1, 1, 1, 1, 1, 1, 1, 0, 0, 0});
  const auto [units, hidden] = session(view(ids, {2, 5}), mask);
  CHECK(std::ranges::equal(units.shape(), std::vector<std::int64_t>{2, 8}));
  CHECK(std::ranges::equal(hidden.shape(), std::vector<std::int64_t>{2, 5, 8}));
  const std::vector<std::int32_t> alone{6, 7};
  const Tensor ones({1, 2}, {1, 1});
  const auto [unit, unused] = session(view(alone, {1, 2}), ones);
  CHECK(relative_error(unit.values(), units.row(1)) < 1e-6);
}

// Each layer run by a session of its own, its weights found by prefix.
TEST_CASE("Loops in loops of every parity give what the same layers written out give") {
  const auto check = []<std::int64_t Outer, std::int64_t Inner>() {
    using Net = Nested<Outer, Inner>;
    Fixture<Net> f;
    Session session(f.model);
    const Tensor x = ramp({3, 6});
    Tensor expected = x;
    for (std::int64_t o = 0; o < Outer; ++o) {
      const std::string prefix = "outer." + std::to_string(o) + ".";
      const auto mix = open<Linear<"mix", 6, 6>>(f.folder.file("model.safetensors"), {.prefix = prefix});
      expected = Session(mix)(expected);
      for (std::int64_t i = 0; i < Inner; ++i) {
        const auto fc = open<Sequential<Linear<"fc", 6, 6>, Tanh>>(
            f.folder.file("model.safetensors"), {.prefix = prefix + "inner." + std::to_string(i) + "."});
        expected = Session(fc)(expected);
      }
    }
    const Tensor y = session(x);
    CHECK(std::ranges::equal(y.values(), expected.values()));
    CHECK(session(x) == y);
  };
  check.operator()<1, 1>();
  check.operator()<1, 2>();
  check.operator()<2, 1>();
  check.operator()<2, 2>();
  check.operator()<2, 3>();
  check.operator()<3, 2>();
  check.operator()<3, 3>();
  check.operator()<4, 2>();
}

TEST_CASE("An input that the net does not take is refused with both shapes") {
  Fixture<Encoder<8, 2>> f;
  Session session(f.model);
  const std::vector<std::int32_t> ids{1, 2, 3, 4};
  CHECK_THROWS_WITH_AS(
      (void)session(view(ids, {2, 2}), ramp({2, 3})),
      "input mask: expected [batch, tokens] F32, got [2, 3] F32; another input has tokens = 2", shape_error);
  CHECK_THROWS_WITH_AS((void)session(ramp({2, 2}), ramp({2, 2})),
                       "input ids: expected [batch, tokens] I32, got [2, 2] F32", shape_error);
  CHECK_THROWS_WITH_AS((void)session(view(ids, {1, 2, 2}), ramp({2, 2})),
                       "input ids: expected [batch, tokens] I32, got [1, 2, 2] I32", shape_error);
  const std::vector<std::int32_t> nothing;
  CHECK_THROWS_WITH_AS((void)session(view(nothing, {0, 2}), ramp({0, 2})),
                       "input ids: expected [batch, tokens] I32, got [0, 2] I32; it has no elements",
                       shape_error);

  Fixture<Mlp> g;
  Session mlp(g.model);
  CHECK_THROWS_WITH_AS((void)mlp(ramp({3, 7})),
                       "input input: expected [batch, tokens, 6] F32, got [3, 7] F32", shape_error);
  TensorView strided = ramp({4, 6});
  const Tensor wide = ramp({4, 12});
  strided.data = reinterpret_cast<const std::byte*>(wide.values().data());
  strided.strides[0] = 12;
  CHECK_THROWS_WITH_AS((void)mlp(strided),
                       "input input: expected [batch, tokens, 6] F32, got [4, 6] F32; its elements "
                       "must be contiguous, make a copy",
                       shape_error);
  strided.strides[0] = 6;
  strided.data += 2;
  CHECK_THROWS_WITH_AS((void)mlp(strided),
                       "input input: expected [batch, tokens, 6] F32, got [4, 6] F32; its address "
                       "must be a multiple of the element's size, make a copy",
                       shape_error);
}

TEST_CASE("A view of the workspace is not taken as an input") {
  Fixture<Mlp> f;
  Session session(f.model);
  const TensorView y = session.run(ramp({3, 6}));
  CHECK_THROWS_WITH_AS(
      (void)session(y),
      "input input: expected [batch, tokens, 6] F32, got [1, 3, 6] F32; it lies in this session's own "
      "workspace, make a copy",
      shape_error);
}

TEST_CASE("An id outside the table is refused and the session goes on") {
  Fixture<Encoder<8, 2>> f;
  Session session(f.model);
  const std::vector<std::int32_t> ids{1, 11};
  const Tensor mask({1, 2}, {1, 1});
  CHECK_THROWS_AS((void)session(view(ids, {1, 2}), mask), error);
  const std::vector<std::int32_t> good{1, 10};
  CHECK_NOTHROW((void)session(view(good, {1, 2}), mask));
}

TEST_CASE("A workspace over the budget is refused before anything is taken") {
  TemporaryFolder folder;
  write_checkpoint<Mlp>(folder.file("model.safetensors"));
  static constexpr Config small{.weights = f32, .budget = 1 * MiB};
  const auto model = open<Mlp, small>(folder.file("model.safetensors"));
  CHECK(&model.ledger() != &process_ledger());
  Session session(model, {.tokens = 10});
  const BytesByCategory held = model.ledger().current();
  CHECK_THROWS_AS(session.reserve({.tokens = 100'000}), budget_error);
  CHECK(model.ledger().current() == held);
  CHECK_NOTHROW((void)session(ramp({10, 6})));
}

TEST_CASE("A view from run shows the workspace and allocates nothing") {
  Fixture<Mlp> f;
  Session session(f.model, {.tokens = 5});
  const Tensor x = ramp({5, 6});
  const Tensor owned = session(x);
  const TensorView input = x;
  const AllocationProbe probe;
  const TensorView y = session.run(input);
  const std::int64_t taken = probe.count();
  CHECK(taken == 0);
  CHECK(std::memcmp(y.data, owned.values().data(), static_cast<std::size_t>(y.bytes())) == 0);
}

TEST_CASE("16-bit bases keep their dtype in overlays and come back bit for bit") {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    CAPTURE(dtype_name(dtype));
    Fixture<Mlp> f(dtype);
    Session session(f.model);
    const Tensor x = ramp({5, 6});
    const Tensor base = session(x);
    const Tensor side = [&] {
      const Guard guard = session.attach(f.tone);
      return session(x);
    }();
    {
      const Guard guard = session.attach<merged>(f.tone);
      CHECK(session.slot_weight(0).dtype == dtype);
      // The overlay's weights are rounded to the base's dtype: 2^-9 of each weight for bf16, 2^-11 for f16.
      CHECK(relative_error(session(x).values(), side.values()) < (dtype == DType::bf16 ? 2e-2 : 3e-3));
    }
    CHECK(session(x) == base);
  }
}
