// SPDX-License-Identifier: Apache-2.0
// Products and merges of pairs of bfloat16 in plain loops, with the arithmetic of VDPBF16PS (Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2): to a sum the odd and then the even product of a pair is added, each by a fused operation;
// subnormal numbers are zeros, read and written.
#pragma once

#include <tenon/kernels/merge_kernels.hpp>
#include <tenon/kernels/pair_merge.hpp>
#include <tenon/weights/convert.hpp>
#include <tenon/weights/half.hpp>

#include <support/subnormals.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>

namespace tenon::test {

/// As the processor reads a number of a pair.
[[nodiscard]] inline float value_of_pair(std::uint16_t bits) noexcept {
  return without_subnormals(f32_from_bf16(bits));
}

/// As MergeKernels::merge_pairs.
inline void merge_pairs_in_loops(kernels::WeightMatrix base, const std::uint16_t* left, std::int64_t pairs,
                                 std::span<const kernels::PairProduct> products, const std::uint16_t* panels,
                                 kernels::MergedRows out) noexcept {
  constexpr std::int64_t width = kernels::pair_panel_width;
  for (std::int64_t i = 0; i < base.rows; ++i)
    for (std::int64_t j = 0; j < base.cols; ++j) {
      const std::int64_t in_panel =
          base.dtype == DType::bf16 ? j % width / 2 + j % 2 * (width / 2) : j % width;
      const std::uint16_t* a = panels + j / width * width * 2 * pairs + 2 * in_panel;
      const std::uint16_t* b = left + i * 2 * pairs;
      float delta = 0;
      for (const kernels::PairProduct& product : products) {
        float sum = 0;
        for (std::int64_t k = 0; k < product.pairs; ++k, a += 2 * width, b += 2)
          for (const std::size_t part : {1u, 0u})
            sum = without_subnormals(std::fma(value_of_pair(b[part]), value_of_pair(a[part]), sum));
        const volatile float scaled = product.scale * sum; // not fused with what follows
        delta = &product == products.data() ? scaled : delta + scaled;
      }
      if (out.sums.data != nullptr) out.sums.row(i)[j] = delta;
      float weight = 0;
      decode(base.dtype, base.at(i, j), 1, &weight);
      weight += delta;
      encode(base.dtype, &weight, 1, out.data + i * out.stride + j * dtype_bytes(base.dtype));
    }
}

/// As VectorKernels::multiply_pairs.
inline void multiply_pairs_in_loops(kernels::WeightMatrix left, const std::uint16_t* panel, float alpha,
                                    kernels::Matrix out, kernels::WeightMatrix) noexcept {
  for (std::int64_t i = 0; i < left.rows; ++i)
    for (std::int64_t j = 0; j < kernels::max_panel_width; ++j) {
      float sum = 0;
      for (std::int64_t k = 0; k < left.cols; k += 2)
        for (const std::int64_t part : {k + 1, k}) { // a pair's upper number first
          std::uint16_t weight = 0;
          if (part < left.cols) std::memcpy(&weight, left.at(i, part), sizeof weight);
          const std::uint16_t x = panel[k * kernels::max_panel_width + 2 * j + part % 2];
          sum = without_subnormals(std::fma(value_of_pair(weight), value_of_pair(x), sum));
        }
      out.row(i)[j] = std::fma(alpha, sum, out.row(i)[j]);
    }
}
[[nodiscard]] inline kernels::VectorKernels kernels_with_emulated_pairs() {
  kernels::VectorKernels loops = kernels::vector_kernels(kernels::InstructionSet::portable);
  loops.multiply_pairs = multiply_pairs_in_loops;
  return loops;
}

/// The portable loops and these.
[[nodiscard]] inline kernels::MergeKernels emulated_pairs() {
  kernels::MergeKernels loops = kernels::merge_kernels(kernels::InstructionSet::portable);
  loops.merge_pairs = merge_pairs_in_loops;
  return loops;
}

} // namespace tenon::test
