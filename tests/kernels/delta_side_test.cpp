// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/delta_side.hpp>

#include <support/allocation_probe.hpp>
#include <support/delta_cases.hpp>
#include <support/instruction_sets.hpp>
#include <support/naive.hpp>
#include <support/random_cases.hpp>
#include <support/team.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// Of a value in y: those of Delta, of the sums over the inputs (and over both of LoKr's), and some of what
/// is rounded in between. A rotation of rows is made of rounded products; they are in its magnitudes already.
double side_roundings(const DeltaTerm& term, std::int64_t in) {
  const std::int64_t inner = term.form == DeltaForm::kronecker ? term.first.cols() + term.second.cols() : 0;
  return delta_roundings(term, in) + static_cast<double>(in + inner + 8);
}

} // namespace

TEST_CASE("The side path of every kind agrees with float64 in every instruction set, with and without a base "
          "product") {
  for (std::uint64_t number = 0; number < 30 * DeltaCase::kinds; ++number) {
    const DeltaCase one(number + 900);
    const WeightMatrix base = one.base().view;
    RandomCase random(number);
    const std::int64_t rows = random.size(100, {1, 8, 9, 32, 33});
    INFO("case ", number, ": ", one.text(), ", x ", rows);
    const FloatMatrix x(rows, base.cols, number + 1, random.float_place());
    const Place place = random.float_place();
    Twin twin(rows, base.rows);
    twin.add_all(FloatMatrix(rows, base.rows, number + 2));
    add_product(twin, 1, exact(x.view), transposed(exact_delta(one.term, base)));
    for_each_instruction_set([&](const VectorKernels& kernels) {
      INFO(instruction_set_name(kernels.set));
      const ExactScratch room(delta_side_scratch_bytes(rows, base.rows, base.cols));
      FloatMatrix y(rows, base.rows, number + 2, place);
      delta_add(x.view, base, one.term, y.view, room.scratch(), nullptr, kernels);
      CHECK((room.guard_untouched() && y.padding_untouched()));
      CHECK(error_in_units(y.view, twin) <= side_roundings(one.term, base.cols));

      FloatMatrix product(rows, base.rows, 0, place);
      for (std::int64_t i = 0; i < rows; ++i) std::fill_n(product.view.row(i), base.rows, 0.0f);
      const ExactScratch own(multiply_scratch_bytes(rows, base.rows, base.cols));
      multiply_nt(x.view, base, 1.0f, product.view, own.scratch(), kernels);
      FloatMatrix beside(rows, base.rows, number + 2);
      const ConstMatrix known = product.view;
      delta_add(x.view, base, one.term, beside.view, room.scratch(), &known, kernels);
      CHECK(room.guard_untouched());
      CHECK(error_in_units(beside.view, twin) <= side_roundings(one.term, base.cols));

      FloatMatrix on_top(rows, base.rows, 0); // y is the base's product itself
      for (std::int64_t i = 0; i < rows; ++i) std::copy_n(product.view.row(i), base.rows, on_top.view.row(i));
      FloatMatrix apart = FloatMatrix(rows, base.rows, 0);
      for (std::int64_t i = 0; i < rows; ++i) std::copy_n(product.view.row(i), base.rows, apart.view.row(i));
      const ConstMatrix itself = on_top.view;
      delta_add(x.view, base, one.term, on_top.view, room.scratch(), &itself, kernels);
      delta_add(x.view, base, one.term, apart.view, room.scratch(), &known, kernels);
      CHECK(same_bits(on_top.view, apart.view));
    });
  }
}

TEST_CASE("The side path of every kind has the same bits with any number of threads") {
  for (std::uint64_t number = 0; number < 10 * DeltaCase::kinds; ++number) {
    const DeltaCase one(number + 400);
    const WeightMatrix base = one.base().view;
    for (const std::int64_t rows : {1, 9, 70}) {
      INFO("case ", number, ": ", one.text(), ", x ", rows);
      const FloatMatrix x(rows, base.cols, 1);
      const std::int64_t scratch = delta_side_scratch_bytes(rows, base.rows, base.cols);
      const auto with = [&](int threads) {
        Team team(threads, scratch);
        FloatMatrix y(rows, base.rows, 2);
        delta_add(x.view, base, one.term, y.view, team.workers);
        return y;
      };
      const FloatMatrix alone = with(1);
      for (const int threads : {2, 5}) CHECK(same_bits(with(threads).view, alone.view));
    }
  }
}

TEST_CASE("LoHa goes through as a term of rank r1 r2 while that is less work, in any number of threads") {
  for (const auto& [r1, r2] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 32}, {hadamard_rank, 7}, {33, hadamard_rank}}) {
    CAPTURE(r1);
    CAPTURE(r2);
    const std::int64_t out = 131;
    const std::int64_t in = 2 * gemm_depth + 5;
    const StoredMatrix b1(out, r1, DType::bf16, 1), a1(r1, in, DType::f16, 2, {.shift = 1, .padding = 1});
    const StoredMatrix b2(out, r2, DType::f32, 3, {.padding = 2}), a2(r2, in, DType::bf16, 4);
    const DeltaTerm term{.form = DeltaForm::hadamard,
                         .scale = -0.3f,
                         .first = {.left = b1.view, .right = a1.view},
                         .second = {.left = b2.view, .right = a2.view}};
    const StoredMatrix base(out, in, DType::bf16, 5);
    const FloatMatrix x(11, in, 6, {.padding = 1});
    Twin twin(11, out);
    twin.add_all(FloatMatrix(11, out, 7));
    add_product(twin, 1, exact(x.view), transposed(exact_delta(term, base.view)));
    for_each_instruction_set([&](const VectorKernels& kernels) {
      FloatMatrix y(11, out, 7, {.padding = 1});
      const ExactScratch room(hadamard_scratch_bytes);
      add_hadamard(kernels, x.view, term.first, term.second, term.scale, y.view, room.scratch());
      CHECK((room.guard_untouched() && y.padding_untouched()));
      CHECK(error_in_units(y.view, twin) <= static_cast<double>(in + r1 + r2 + 8));
      Team team(3, hadamard_scratch_bytes);
      FloatMatrix shared(11, out, 7);
      add_hadamard(kernels, x.view, term.first, term.second, term.scale, shared.view, team.workers);
      CHECK(same_bits(shared.view, y.view));
    });
  }
  const StoredMatrix b(200, 16, DType::bf16, 1), a(16, 300, DType::bf16, 2);
  const StoredMatrix long_b(200, 65, DType::bf16, 1), long_a(65, 300, DType::bf16, 2);
  const Factored small{.left = b.view, .right = a.view};
  const Factored large{.left = long_b.view, .right = long_a.view};
  CHECK(is_hadamard_cheaper(small, small, 1));
  CHECK_FALSE(is_hadamard_cheaper(small, small, 1000)); // 16 * 16 * (200 + 300) > 200 * 300
  CHECK_FALSE(is_hadamard_cheaper(small, large, 1));
  CHECK_FALSE(is_hadamard_cheaper(small, {.left = a.view}, 1));
}

TEST_CASE("LoKr of a large factor and long ranks goes through in parts") {
  for (const auto& [p, q, c, d, rank] :
       {std::array<std::int64_t, 5>{3, 5000, 70, 2, 0}, {40, 2, 6000, 3, 1100}}) {
    const StoredMatrix first(p, q, DType::bf16, 1);
    const StoredMatrix left(c, rank == 0 ? d : rank, DType::f16, 2);
    const StoredMatrix right(rank == 0 ? 1 : rank, d, DType::f16, 3);
    DeltaTerm term{.form = DeltaForm::kronecker, .scale = 0.1f, .first = {.left = first.view}};
    term.second = {.left = left.view, .right = rank == 0 ? WeightMatrix{} : right.view};
    const FloatMatrix x(40, q * d, 4, {.padding = 1});
    FloatMatrix y(40, p * c, 5);
    Twin twin(40, p * c);
    twin.add_all(y);
    const Twin s = exact(term.second); // Y = F X S^T
    for (std::int64_t n = 0; n < 40; ++n) {
      Twin inner(q, c);
      Twin rows(q, d);
      for (std::int64_t i = 0; i < q; ++i)
        for (std::int64_t j = 0; j < d; ++j) rows.add(i, j, x(n, i * d + j), std::abs(x(n, i * d + j)));
      add_product(inner, 1, rows, transposed(s));
      Twin all(p, c);
      add_product(all, static_cast<double>(term.scale), exact(first.view), inner);
      for (std::int64_t i = 0; i < p; ++i)
        for (std::int64_t j = 0; j < c; ++j) twin.add(n, i * c + j, all(i, j), all.size(i, j));
    }
    const ExactScratch room(kronecker_scratch_bytes(p * c, q * d));
    add_kronecker(vector_kernels(), x.view, term.first, term.second, term.scale, y.view, room.scratch());
    CHECK(room.guard_untouched());
    Team team(3, kronecker_scratch_bytes(p * c, q * d));
    FloatMatrix shared(40, p * c, 5);
    add_kronecker(vector_kernels(), x.view, term.first, term.second, term.scale, shared.view, team.workers);
    CHECK(same_bits(shared.view, y.view));
    CHECK(error_in_units(y.view, twin) <= static_cast<double>(q + d + rank + 16));
  }
}

TEST_CASE("The side path of every kind allocates nothing and its scratch does not grow with the rows") {
  CHECK(delta_side_scratch_bytes(4096, 5120, 5120) == delta_side_scratch_bytes(256, 5120, 5120));
  for (std::uint64_t number = 0; number < DeltaCase::kinds; ++number) {
    const DeltaCase one(number);
    const WeightMatrix base = one.base().view;
    const FloatMatrix x(40, base.cols, 1);
    const FloatMatrix y(40, base.rows, 2);
    const ExactScratch room(delta_side_scratch_bytes(40, base.rows, base.cols));
    const AllocationProbe probe;
    delta_add(x.view, base, one.term, y.view, room.scratch());
    const auto taken = probe.count();
    CHECK(taken == 0);
  }
}
