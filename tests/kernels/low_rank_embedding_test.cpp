// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/low_rank_embedding.hpp>

#include <support/allocation_probe.hpp>
#include <support/instruction_sets.hpp>
#include <support/naive.hpp>
#include <support/random_cases.hpp>
#include <support/team.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("Rows of an embedding get their low-rank part, those that a term has no row for nothing") {
  for (const DType type : weight_dtypes)
    for (const std::int64_t count : {1, 31, 33, 100})
      for (const std::int64_t rank : {std::int64_t{1}, std::int64_t{13}, low_rank_depth + 5}) {
        constexpr std::int64_t width = 70;
        const StoredMatrix a(rank, width, type, 1, {.shift = 1, .padding = 2});
        const StoredMatrix b(40, rank, type, 2, {.padding = 1});
        const FloatMatrix gains(1, 40, 3);
        const LowRankTerm terms[] = {{.a = a.view, .b = b.view, .scale = 0.5f},
                                     {.a = a.view,
                                      .b = b.view.block(0, 0, 10, rank),
                                      .scale = -2.0f,
                                      .row_gain = gains.view.row(0),
                                      .first_row = 25}};
        RandomCase random(static_cast<std::uint64_t>(count + rank));
        std::vector<std::int32_t> ids;
        for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(random.below(50)));
        Twin twin(count, width);
        twin.add_all(FloatMatrix(count, width, 9));
        for (std::int64_t i = 0; i < count; ++i)
          for (const LowRankTerm& term : terms)
            for (std::int64_t j = 0; j < width; ++j) {
              const std::int64_t row = ids[static_cast<std::size_t>(i)] - term.first_row;
              if (row < 0 || row >= term.b.rows) continue;
              const double gain =
                  static_cast<double>(term.scale) * (term.row_gain == nullptr ? 1.0 : gains(0, row));
              for (std::int64_t r = 0; r < rank; ++r) {
                const double part = gain * b(row, r) * a(r, j);
                twin.add(i, j, part, std::abs(part));
              }
            }
        for_each_instruction_set([&](const VectorKernels& kernels) {
          CAPTURE(instruction_set_name(kernels.set));
          FloatMatrix y(count, width, 9, {.padding = 3});
          const ExactScratch room(low_rank_embedding_scratch_bytes(width));
          low_rank_embedding_add(ids, terms, y.view, room.scratch(), kernels);
          CHECK((room.guard_untouched() && y.padding_untouched()));
          CHECK(error_in_units(y.view, twin) <= static_cast<double>(rank + 8));
          Team team(3, low_rank_embedding_scratch_bytes(width));
          FloatMatrix shared(count, width, 9);
          low_rank_embedding_add(ids, terms, shared.view, team.workers, kernels);
          CHECK(same_bits(shared.view, y.view));
        });
      }
}

TEST_CASE("The side path of an embedding allocates nothing") {
  const Factors f(30, 50, 8, DType::bf16, 1.0f, 1);
  const std::vector<std::int32_t> ids{3, 29, 0};
  const FloatMatrix y(3, 50, 2);
  const ExactScratch room(low_rank_embedding_scratch_bytes(50));
  const AllocationProbe probe;
  low_rank_embedding_add(ids, {&f.term, 1}, y.view, room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
}
