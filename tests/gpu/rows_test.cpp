// SPDX-License-Identifier: Apache-2.0
// A block of a GPU as threads of the processor: what a row's functor computes must not depend on how many lanes share it,
// and lanes must meet where one reads what another wrote.
#include <doctest/doctest.h>

#include <tenon/gpu/step_table.hpp>

#include <support/device_tolerance.hpp>
#include <support/naive.hpp>

#include <barrier>
#include <thread>

using namespace tenon;
using namespace tenon::test;

namespace {

struct BlockOfThreads {
  explicit BlockOfThreads(std::int64_t lanes)
      : count(lanes), together(lanes), numbers(static_cast<std::size_t>(lanes)),
        shared(static_cast<std::size_t>(gpu::team_floats), std::numeric_limits<float>::quiet_NaN()) {}
  std::int64_t count;
  std::barrier<> together;
  std::vector<double> numbers;
  std::vector<float> shared;
};

struct ThreadLane {
  float* shared;
  BlockOfThreads* block;
  std::int64_t index;

  [[nodiscard]] std::int64_t lane() const { return index; }
  [[nodiscard]] std::int64_t lanes() const { return block->count; }
  template <class Join>
  [[nodiscard]] double join(double x, Join join) const {
    block->numbers[static_cast<std::size_t>(index)] = x;
    meet();
    double all = block->numbers[0];
    for (std::size_t i = 1; i < block->numbers.size(); ++i) all = join(all, block->numbers[i]);
    meet();
    return all;
  }
  [[nodiscard]] double sum(double x) const {
    return join(x, [](double a, double b) { return a + b; });
  }
  [[nodiscard]] float largest(float x) const {
    return static_cast<float>(
        join(static_cast<double>(x), [](double a, double b) { return std::fmax(a, b); }));
  }
  void meet() const { block->together.arrive_and_wait(); }
};

template <class F>
void run_rows(const F& f, std::int64_t rows, std::int64_t lanes) {
  BlockOfThreads block(lanes);
  std::vector<std::jthread> threads;
  for (std::int64_t lane = 0; lane < lanes; ++lane)
    threads.emplace_back([&, lane] {
      for (std::int64_t row = 0; row < rows; ++row) {
        f(row, ThreadLane{block.shared.data(), &block, lane});
        block.together.arrive_and_wait();
      }
    });
}

/// `make(y)` is the functor that writes there.
template <class Make>
void check_lanes(std::int64_t rows, std::size_t size, Make make) {
  std::vector<float> expected(size);
  for (std::int64_t row = 0; row < rows; ++row) gpu::RowOfOneLane{make(expected.data())}(row);
  for (const std::int64_t lanes : {2, 5}) {
    std::vector<float> y(size, std::numeric_limits<float>::quiet_NaN());
    run_rows(make(y.data()), rows, lanes);
    CHECK(difference(y, expected) <= device_tolerance);
  }
}

std::vector<float> numbers_of(std::size_t size, std::uint64_t seed) {
  Numbers numbers(seed);
  std::vector<float> out(size);
  for (float& x : out) x = 3 * numbers.next();
  return out;
}

} // namespace

TEST_CASE("A norm's row is the same shared by several lanes") {
  constexpr std::int64_t width = 37;
  const std::vector<float> a = numbers_of(4 * width, 1);
  const std::vector<float> b = numbers_of(4 * width, 2);
  const std::vector<float> gain = numbers_of(width, 3);
  const gpu::StoredVector weight(reinterpret_cast<const std::byte*>(gain.data()), DType::f32);
  check_lanes(4, a.size(), [&](float* y) {
    return gpu::LayerNormRow{{a.data(), b.data()}, y, width, weight, weight, 1e-5};
  });
  check_lanes(4, a.size(), [&](float* y) { return gpu::RmsNormRow{a.data(), y, width, weight, 1e-5}; });
  check_lanes(4, a.size(), [&](float* y) { return gpu::L2NormalizeRow{a.data(), y, width}; });
  check_lanes(4, a.size(), [&](float* y) { return gpu::SoftmaxRow{a.data(), y, width}; });
  check_lanes(4, a.size(), [&](float* y) {
    return gpu::ModulatedNormRow{a.data(), y, width, 2, b.data(), b.data() + width, width, 1e-5};
  });
}

TEST_CASE("A group's norm is the same shared by several lanes") {
  const std::vector<float> x = numbers_of(2 * 11 * 6, 1);
  check_lanes(2 * 3, x.size(), [&](float* y) {
    return gpu::GroupNormRow{x.data(), y, 11, 3, 2, gpu::StoredVector(), gpu::StoredVector(), 1e-5};
  });
}

TEST_CASE("Attention is the same shared by several lanes") {
  constexpr std::int64_t queries = gpu::tile_keys + 9;
  constexpr std::int64_t most = 2 * queries;
  const std::vector<float> q = numbers_of(queries * 2 * 7, 1);
  const std::vector<float> k_and_v = numbers_of(most * 14, 2); // as a state has them
  for (const std::int64_t past : {std::int64_t{0}, most - queries})
    for (const bool is_causal : {false, true}) {
      const auto make = [&](float* y) {
        return gpu::AttentionQueries{.q = q.data(),
                                     .k = k_and_v.data(),
                                     .v = k_and_v.data() + 7,
                                     .mask = nullptr,
                                     .bias = nullptr,
                                     .y = y,
                                     .queries = queries,
                                     .keys = past + queries,
                                     .key_stride = most,
                                     .key_width = 14,
                                     .first_query = past,
                                     .heads = 2,
                                     .kv_heads = 1,
                                     .width = 7,
                                     .scale = 0.5f,
                                     .is_causal = is_causal};
      };
      check_lanes(2 * make(nullptr).items_of_head(), q.size(), make);
    }
}
