// SPDX-License-Identifier: Apache-2.0
#include "support/instruction_sets.hpp"
#include "support/naive.hpp"
#include "support/team.hpp"

#include <tenon/kernels/attention.hpp>
#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/low_rank.hpp>
#include <tenon/kernels/workers.hpp>

#include <doctest/doctest.h>

#include <mutex>
#include <random>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

std::vector<float> random_values(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

ConstMatrix view(const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
  return {values.data(), rows, cols, cols};
}

} // namespace

TEST_CASE("Work is shared in whole steps, all of it, each part with a scratch of its thread's own") {
  Team team(3);
  for (const std::int64_t total : {1, 5, 48, 49, 1000}) {
    CAPTURE(total);
    std::mutex mutex;
    std::vector<int> seen(static_cast<std::size_t>(total));
    std::int64_t parts = 0;
    std::int64_t least_scratch = scratch_each;
    team.workers.share(total, 48, 1'000'000, [&](std::int64_t first, std::int64_t count, Scratch scratch) {
      const std::scoped_lock lock(mutex);
      ++parts;
      least_scratch = std::min(least_scratch, scratch.remaining());
      if (first % 48 != 0) least_scratch = -1;
      for (std::int64_t i = first; i < first + count; ++i) ++seen[static_cast<std::size_t>(i)];
    });
    CHECK(least_scratch == scratch_each);
    CHECK(parts == std::min<std::int64_t>((total + 47) / 48, parts));
    for (const int count : seen) REQUIRE(count == 1);
    if (total == 1000) CHECK(parts > 3);
  }
}

TEST_CASE("Little work stays on the calling thread, with what is left of its scratch") {
  Team team(2);
  const auto caller = std::this_thread::get_id();
  Workers workers = team.workers;
  static_cast<void>(workers.take<float>(1000));
  int parts = 0;
  workers.share(100, 1, 10, [&](std::int64_t, std::int64_t count, Scratch scratch) {
    ++parts;
    CHECK(count == 100);
    CHECK(std::this_thread::get_id() == caller);
    CHECK(scratch.remaining() <= scratch_each - 4000);
  });
  CHECK(parts == 1);
}

TEST_CASE("Products, side paths and attention have the same bits with any number of threads") {
  constexpr std::int64_t out = 700;
  constexpr std::int64_t in = 530;
  const std::vector<float> w = random_values(out * in, 1);
  const std::vector<float> a = random_values(70 * in, 2);
  const std::vector<float> b = random_values(out * 70, 3);
  std::vector<std::byte> half(static_cast<std::size_t>(out * in * 2));
  encode(DType::bf16, w.data(), out * in, half.data());
  const LowRankTerm terms[] = {{as_weight(view(a, 70, in)), as_weight(view(b, out, 70)), 0.5f},
                               {as_weight(view(a, 3, in)), as_weight(view(b, out, 3)), -1.5f}};
  for (const std::int64_t rows : {1, 8, 9, 64, 300}) {
    CAPTURE(rows);
    const std::vector<float> x = random_values(rows * in, 4);
    const std::vector<float> heads = random_values(rows * 64, 5);
    for_each_instruction_set([&](const VectorKernels& kernels) {
      CAPTURE(instruction_set_name(kernels.set));
      const auto all = [&](int threads) {
        Team team(threads);
        std::vector<float> y(static_cast<std::size_t>(2 * rows * out + rows * 64));
        const Matrix first{y.data(), rows, out, out};
        const Matrix second{y.data() + rows * out, rows, out, out};
        multiply_nt(view(x, rows, in), as_weight(view(w, out, in)), 1.0f, first, team.workers, kernels);
        low_rank_add(view(x, rows, in), terms, first, team.workers, kernels);
        multiply_nt(view(x, rows, in), WeightMatrix{half.data(), DType::bf16, out, in, in}, 0.5f, second,
                    team.workers, kernels);
        attention(view(heads, rows, 64), view(heads, rows, 64), view(heads, rows, 64), {},
                  {.batch = 1, .queries = rows, .keys = rows, .heads = 4},
                  {y.data() + 2 * rows * out, rows, 64, 64}, team.workers);
        return y;
      };
      const std::vector<float> alone = all(1);
      for (const int threads : {2, 3, 5}) {
        CAPTURE(threads);
        CHECK(all(threads) == alone);
      }
    });
  }
}
