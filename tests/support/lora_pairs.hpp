// SPDX-License-Identifier: Apache-2.0
// Plain LoRA for tests: pairs with random factors, and their deltas as doubles.
#pragma once

#include <tenon/adapters/lora_pair.hpp>

#include <support/naive.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

namespace tenon::test {

[[nodiscard]] inline LoraPair random_pair(std::int64_t out, std::int64_t in, std::int64_t rank, double scale,
                                          std::uint64_t seed, bool has_bias = false) {
  Numbers numbers(seed);
  LoraPair pair{.out = out, .in = in, .rank = rank, .scale = scale};
  for (std::int64_t i = 0; i < rank * in; ++i) pair.a.push_back(numbers.next());
  for (std::int64_t i = 0; i < out * rank; ++i) pair.b.push_back(numbers.next());
  for (std::int64_t i = 0; has_bias && i < out; ++i) pair.bias.push_back(numbers.next());
  return pair;
}

/// factor * scale * B A.
[[nodiscard]] inline DoubleMatrix delta_of(const LoraPair& pair, double factor = 1) {
  DoubleMatrix out(pair.out, pair.in);
  for (std::int64_t i = 0; i < pair.out; ++i)
    for (std::int64_t k = 0; k < pair.rank; ++k)
      for (std::int64_t j = 0; j < pair.in; ++j)
        out.row(i)[j] += factor * pair.scale * static_cast<double>(pair.b_view().row(i)[k]) *
                         static_cast<double>(pair.a_view().row(k)[j]);
  return out;
}

/// The largest difference of two matrices over the largest value of the second.
[[nodiscard]] inline double relative_difference(const DoubleMatrix& got, const DoubleMatrix& expected) {
  double largest = 0;
  double difference = 0;
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    largest = std::max(largest, std::abs(expected.values[i]));
    difference = std::max(difference, std::abs(got.values[i] - expected.values[i]));
  }
  return largest > 0 ? difference / largest : difference;
}

} // namespace tenon::test
