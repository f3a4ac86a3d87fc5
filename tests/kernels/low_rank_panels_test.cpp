// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/core/thread_team.hpp>
#include <tenon/kernels/low_rank.hpp>
#include <tenon/kernels/low_rank_panels.hpp>

#include <support/instruction_sets.hpp>
#include <support/naive.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// Three terms, of which the second has fewer rows than the weight and another type.
struct Terms {
  Terms(std::int64_t out, std::int64_t in, std::int64_t rank) {
    factors.reserve(3);
    factors.emplace_back(out, in, rank, DType::bf16, 0.7f, 2, Place{.shift = 1, .padding = 1});
    factors.emplace_back((out + 1) / 2, in, 3, DType::f16, -0.5f, 5);
    factors.emplace_back(out, in, 1, DType::f32, 2.0f, 8, Place{.padding = 2});
    for (const Factors& f : factors) list.push_back(f.term);
    list[1].first_row = out / 2;
  }
  std::vector<Factors> factors{};
  std::vector<LowRankTerm> list{};
};

} // namespace

TEST_CASE("With factors in panels the side path has the bits that it has with rows in panels") {
  for_each_instruction_set([](const VectorKernels& kernels) {
    for (const std::int64_t rows : {9, 16, 33, 70})
      for (const std::int64_t rank : {1, 8, 29})
        for (const std::int64_t in : {1, 17, 400})
          for (const std::int64_t out : {1, 31, 65}) {
            const Terms terms(out, in, rank);
            const std::int64_t ranks = total_rank(terms.list);
            const FloatMatrix x(rows, in, 1, {.shift = 4, .padding = 1});
            FloatMatrix y(rows, out, 3, {.shift = 8, .padding = 3});
            FloatMatrix other(rows, out, 3);
            INFO(instruction_set_name(kernels.set), " ", rows, " ", rank, " ", in, " ", out);

            const std::int64_t stride = panel_floats(1, ranks, kernels.width);
            std::vector<float> room(static_cast<std::size_t>(rows * stride), 5.0f);
            const Matrix product{room.data(), rows, ranks, stride};
            const ExactScratch exact(low_rank_panel_scratch_bytes(ranks, in));
            shrink_by_panels(kernels, x.view, terms.list, 0, product, exact.scratch());
            expand_by_panels(kernels, terms.list, 0, 0, product, y.view, exact.scratch());
            CHECK(exact.guard_untouched());
            CHECK(y.padding_untouched());

            std::vector<float> turned(static_cast<std::size_t>(panel_floats(ranks, rows)));
            const ExactScratch large(low_rank_scratch_bytes(rows, out, in));
            shrink(kernels, x.view, terms.list, 0, ranks, turned.data(), large.scratch());
            expand(kernels, terms.list, 0, ranks, 0, turned.data(), other.view, large.scratch());
            CHECK(same_bits(y.view, other.view));
          }
  });
}

TEST_CASE("A row's side path does not depend on how many rows there are, be they more than ranks or fewer") {
  constexpr std::int64_t rows = 60;
  constexpr std::int64_t in = 500;
  constexpr std::int64_t out = 90;
  const Terms terms(out, in, 36); // 40 ranks
  const FloatMatrix x(rows, in, 1);
  for_each_instruction_set([&](const VectorKernels& kernels) {
    FloatMatrix whole(rows, out, 3);
    FloatMatrix parts(rows, out, 3);
    const ExactScratch room(low_rank_scratch_bytes(rows, out, in));
    low_rank_add(x.view, terms.list, whole.view, room.scratch(), kernels);
    for (const std::int64_t first : {0, 20, 40})
      low_rank_add(x.view.rows_from(first, 20), terms.list, parts.view.rows_from(first, 20), room.scratch(),
                   kernels);
    INFO(instruction_set_name(kernels.set));
    CHECK(same_bits(whole.view, parts.view));
  });
}

TEST_CASE("Any number of threads, the same bits, with factors in panels") {
  constexpr std::int64_t rows = 300;
  constexpr std::int64_t in = 900;
  constexpr std::int64_t out = 700;
  const Terms terms(out, in, 60);
  const FloatMatrix x(rows, in, 1);
  FloatMatrix one(rows, out, 3);
  const std::int64_t each = low_rank_scratch_bytes(rows, out, in);
  const ExactScratch own(each);
  low_rank_add(x.view, terms.list, one.view, own.scratch());
  for (const int threads : {2, 5}) {
    FloatMatrix many(rows, out, 3);
    ThreadTeam team(threads);
    PlacedBytes others(each * (threads - 1), 0);
    const Workers workers(own.scratch(), &team,
                          {others.data(), static_cast<std::size_t>(each * (threads - 1))}, each);
    low_rank_add(x.view, terms.list, many.view, workers);
    CHECK(same_bits(one.view, many.view));
  }
}
