// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/low_rank.hpp>

#include <support/allocation_probe.hpp>
#include <support/instruction_sets.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// twin += scale (x A^T) B^T
void add_exact(Twin& twin, const FloatMatrix& x, const Factors& f) {
  Twin shrunk(x.view.rows, f.a.view.rows);
  shrunk.add_product(1, x.view.cols, x, [&](auto k, auto r) { return f.a(r, k); });
  const auto b = [&](auto r, auto j) { return f.b(j, r); };
  twin.add_product(
      static_cast<double>(f.term.scale), f.a.view.rows, shrunk, b,
      [&](auto i, auto r) { return shrunk.size(i, r); }, [&](auto r, auto j) { return std::abs(b(r, j)); });
}

void add_to(const FloatMatrix& x, std::span<const LowRankTerm> terms, FloatMatrix& y,
            const VectorKernels& kernels = vector_kernels()) {
  const ExactScratch room(low_rank_scratch_bytes(x.view.rows, y.view.cols, x.view.cols));
  low_rank_add(x.view, terms, y.view, room.scratch(), kernels);
  CHECK((room.guard_untouched() && y.padding_untouched()));
}

} // namespace

TEST_CASE("The side path agrees with float64 for all ranks and dtypes") {
  constexpr std::int64_t in = 37;
  constexpr std::int64_t out = 41;
  for (const DType type : weight_dtypes)
    for (const std::int64_t rows : {1, 5, 9, 29})
      for (const std::int64_t rank :
           {std::int64_t{1}, std::int64_t{13}, low_rank_depth, low_rank_depth + 1, std::int64_t{512}}) {
        const FloatMatrix x(rows, in, 1, {.padding = 1});
        const Factors f(out, in, rank, type, 0.5f, 2, {.padding = 2});
        FloatMatrix y(rows, out, 4, {.padding = 3});
        Twin twin(rows, out);
        twin.add_all(y);
        add_exact(twin, x, f);
        add_to(x, {&f.term, 1}, y);
        INFO(dtype_name(type), " ", rows, " ", rank);
        CHECK(error_in_units(y.view, twin) <= static_cast<double>(in + rank + 8));
      }
}

TEST_CASE("The side path agrees with float64 in every instruction set this processor has") {
  for_each_instruction_set([](const VectorKernels& kernels) {
    for (const std::int64_t rows : {2, 8, 9, 40}) {
      const FloatMatrix x(rows, 45, 1);
      const Factors f(51, 45, 19, DType::bf16, -1.5f, 2);
      FloatMatrix y(rows, 51, 4, {.padding = 3});
      Twin twin(rows, 51);
      twin.add_all(y);
      add_exact(twin, x, f);
      add_to(x, {&f.term, 1}, y, kernels);
      INFO(instruction_set_name(kernels.set), " ", rows);
      CHECK(error_in_units(y.view, twin) <= 45 + 19 + 8);
    }
  });
}

TEST_CASE("Terms of several ranks and dtypes add up") {
  const std::vector<Factors> factors = [] {
    std::vector<Factors> list;
    list.emplace_back(50, 60, 4, DType::bf16, 2.0f, 10);
    list.emplace_back(50, 60, 200, DType::f16, -0.25f, 20);
    list.emplace_back(50, 60, 1, DType::f32, 1.0f, 30);
    return list;
  }();
  const FloatMatrix x(9, 60, 1);
  FloatMatrix y(9, 50, 2);
  Twin twin(9, 50);
  twin.add_all(y);
  std::vector<LowRankTerm> terms;
  for (const Factors& f : factors) {
    add_exact(twin, x, f);
    terms.push_back(f.term);
  }
  add_to(x, terms, y);
  CHECK(error_in_units(y.view, twin) <= 60 + 205 + 12);
}

TEST_CASE("More rows than a tile holds give what each tile gives alone") {
  const FloatMatrix x(low_rank_tile + 3, 20, 1);
  const Factors f(10, 20, 6, DType::f16, 1.5f, 2);
  FloatMatrix y(low_rank_tile + 3, 10, 3);
  FloatMatrix tail(low_rank_tile + 3, 10, 3);
  add_to(x, {&f.term, 1}, y);
  const ExactScratch room(low_rank_scratch_bytes(3, 10, 20));
  low_rank_add(x.view.rows_from(low_rank_tile, 3), {&f.term, 1}, tail.view.rows_from(low_rank_tile, 3),
               room.scratch());
  CHECK(same_bits(y.view.rows_from(low_rank_tile, 3), tail.view.rows_from(low_rank_tile, 3)));
}

TEST_CASE("The bits of the side path do not depend on addresses") {
  for (const DType type : weight_dtypes) {
    FloatMatrix y(11, 70, 1);
    FloatMatrix shifted(11, 70, 1, {.shift = 4, .padding = 1});
    const Factors plain(70, 90, 17, type, 0.3f, 2);
    const Factors moved(70, 90, 17, type, 0.3f, 2, {.shift = 3});
    add_to(FloatMatrix(11, 90, 5), {&plain.term, 1}, y);
    add_to(FloatMatrix(11, 90, 5, {.shift = 20, .padding = 3}), {&moved.term, 1}, shifted);
    CHECK(same_bits(y.view, shifted.view));
  }
}

TEST_CASE("No terms and terms of rank 0 leave y as it is") {
  const FloatMatrix x(3, 8, 1);
  FloatMatrix y(3, 5, 2);
  const LowRankTerm nothing{{nullptr, DType::f32, 0, 8, 8}, {nullptr, DType::f32, 5, 0, 0}, 1.0f};
  add_to(x, {}, y);
  add_to(x, {&nothing, 1}, y);
  CHECK(same_bits(y.view, FloatMatrix(3, 5, 2).view));
}

TEST_CASE("The side path allocates nothing and its scratch has an upper bound") {
  static_assert(low_rank_scratch_bytes(1 << 20, 1 << 16, 1 << 16) == 712 * 1024);
  const FloatMatrix x(300, 100, 1);
  const Factors f(120, 100, 16, DType::bf16, 1.0f, 2);
  FloatMatrix y(300, 120, 3);
  const ExactScratch room(low_rank_scratch_bytes(300, 120, 100));
  const AllocationProbe probe;
  low_rank_add(x.view, {&f.term, 1}, y.view, room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
}
