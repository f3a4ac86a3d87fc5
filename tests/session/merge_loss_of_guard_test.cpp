// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Repeat<"layer", 2, Sequential<Linear<"up", 70, 500>, Gelu, Linear<"down", 500, 70>>>;

/// The loss of one slot by its definition, in double.
kernels::MergeLoss counted(const TensorView& base, std::span<const std::byte> stored,
                           std::span<const std::pair<SlotFactors, double>> terms) {
  const std::int64_t rows = base.extent(0);
  const std::int64_t cols = base.extent(1);
  const auto element = static_cast<std::size_t>(dtype_bytes(base.dtype));
  kernels::MergeLoss loss;
  loss.weights = rows * cols;
  const auto value = [](DType dtype, const std::byte* at) {
    float decoded = 0;
    decode(dtype, at, 1, &decoded);
    return static_cast<double>(decoded);
  };
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) {
      const auto at = static_cast<std::size_t>(i * cols + j) * element;
      if (std::memcmp(base.data + at, stored.data() + at, element) == 0) ++loss.unmoved;
      double delta = 0;
      for (const auto& [factors, weight] : terms)
        for (std::int64_t r = 0; r < factors.a.rows; ++r)
          delta += weight * factors.scale * value(factors.b.dtype, factors.b.at(i, r)) *
                   value(factors.a.dtype, factors.a.at(r, j));
      const double effective = value(base.dtype, stored.data() + at) - value(base.dtype, base.data + at);
      loss.delta_squared += delta * delta;
      loss.error_squared += (effective - delta) * (effective - delta);
    }
  return loss;
}

} // namespace

TEST_CASE("The loss that a guard reports equals a brute-force count, for each slot and in all") {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    CAPTURE(dtype_name(dtype));
    Fixture<Net> f(dtype);
    for (const double scale : {1.0, 0.01}) {
      CAPTURE(scale);
      Session session(f.model);
      const Guard guard = session.attach<merged>(f.tone, f.other, scale, measure_loss);
      kernels::MergeLoss all;
      for (std::int32_t slot = 0; slot < 4; ++slot) {
        CAPTURE(slot);
        std::vector<std::pair<SlotFactors, double>> terms;
        for (const Adapter<Net>* adapter : {&f.tone, &f.other})
          for (const SlotFactors& factors : adapter->data()->factors)
            if (factors.slot == slot) terms.emplace_back(factors, scale);
        const kernels::MergeLoss expected =
            counted(f.model.weights()[static_cast<std::size_t>(slot < 2 ? slot : slot + 2)],
                    slot_bytes(session, slot), terms);
        const kernels::MergeLoss loss = guard.loss(slot);
        CHECK(loss.weights == expected.weights);
        CHECK(loss.unmoved == expected.unmoved);
        // deltas are floats of sums of up to seven products, beside weights of at most some 1000 times their size
        CHECK(loss.delta_squared == doctest::Approx(expected.delta_squared).epsilon(1e-3));
        CHECK(loss.error_squared == doctest::Approx(expected.error_squared).epsilon(1e-3));
        all += loss;
      }
      CHECK(guard.loss().weights == all.weights);
      CHECK(guard.loss().unmoved == all.unmoved);
      CHECK(guard.loss().share_unmoved() ==
            static_cast<double>(all.unmoved) / static_cast<double>(all.weights));
      CHECK((scale < 0.1 ? guard.loss().relative_error() > 0.01 : guard.loss().unmoved < all.weights / 2));
    }
  }
}

TEST_CASE(
    "Measuring changes no bit of the merge, costs the bytes that the plan says, and depends on no thread") {
  Fixture<Net> f(DType::bf16);
  Session session(f.model);
  const auto plain = [&] {
    const Guard guard = session.attach<merged>(f.tone);
    CHECK(guard.loss().weights == 0);
    return slot_bytes(session, 0);
  }();
  const AttachPlan plan = session.plan<merged>(f.tone, measure_loss);
  kernels::MergeLoss first;
  for (const int threads : {1, 2, 3}) {
    session.use_threads(threads);
    const PeakScope peak(f.ledger);
    const Guard guard = session.attach<merged>(f.tone, measure_loss);
    CHECK(peak.peak_above_start() == plan.bytes.total());
    CHECK(slot_bytes(session, 0) == plain);
    if (threads == 1) first = guard.loss();
    CHECK(guard.loss().unmoved == first.unmoved);
    CHECK(guard.loss().delta_squared == first.delta_squared);
    CHECK(guard.loss().error_squared == first.error_squared);
  }
}
