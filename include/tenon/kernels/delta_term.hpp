// SPDX-License-Identifier: Apache-2.0
// What an adapter of any kind is to a kernel: how its change of one weight follows from a few stored factors
// and, for some kinds, from the weight itself. Plain LoRA stays a LowRankTerm, which has faster ways;
// everything else is one of these. Views and vectors are somebody else's.
//
// The weight W is [out, in]; a convolution's [out, in / groups, kh, kw] is taken as [out, in / groups * kh *
// kw]. With P what the factors form (of_elements: of W with them),
//   D     = scale * (P + W M)
//   Delta = D                          without gains
//   Delta = u W + (u + plain) D        with gains u along rows or columns
//   Delta = strength * (R(W) - W)      for a rotation, which has no factors.
// Several adapters add their Delta of the pristine weight, in any order.
#pragma once

#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>

#include <cstdint>

namespace tenon::kernels {

/// A stored matrix, or the product of two: `left`, or `left right` where `right` has data.
struct Factored {
  WeightMatrix left{};
  WeightMatrix right{};

  [[nodiscard]] bool empty() const noexcept { return left.data == nullptr; }
  [[nodiscard]] bool is_product() const noexcept { return right.data != nullptr; }
  [[nodiscard]] std::int64_t rows() const noexcept { return left.rows; }
  [[nodiscard]] std::int64_t cols() const noexcept { return is_product() ? right.cols : left.cols; }
};

/// How P follows from the factors.
enum class DeltaForm : std::uint8_t {
  none,        ///< no P: IA3 (gains alone), rotations
  plain,       ///< P = first: LoRA (first = B A), a stored difference
  hadamard,    ///< P = first (*) second, element by element: LoHa (arXiv 2108.06098)
  kronecker,   ///< P = first (x) second: LoKr (arXiv 2212.10650)
  of_elements, ///< P = W (*) first, element by element: PEFT's GLoRA
};

enum class GainAxis : std::uint8_t { none, rows, cols };

/// Orthogonal matrices in blocks, made ready for a kernel: OFT (arXiv 2306.07280) has one stage, BOFT (arXiv
/// 2311.06243) several. See rotation.hpp.
struct Rotation;

struct DeltaTerm {
  DeltaForm form = DeltaForm::none;
  float scale = 1.0f; ///< alpha / rank and the like, times the user's weight
  Factored first{};
  Factored second{};
  Factored of_weight{}; ///< M [in, in] of GLoRA (arXiv 2306.07967), as [in, rank] [rank, in]
  /// Columns of W that are one input, for M alone: kh * kw of a convolution, whose M mixes channels.
  std::int64_t cols_per_input = 1;

  GainAxis gain_axis = GainAxis::none;
  const float* gains = nullptr; ///< u: [out] or [in], of every row or column of W
  float plain = 1.0f;

  const Rotation* rotation = nullptr;
  float strength = 1.0f; ///< of the rotation

  /// The weight's rows [first_row, first_row + rows) are what this changes and what `out` above means; 0 rows
  /// are all. So an adapter of one of several projections fits the weight that holds them all.
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

} // namespace tenon::kernels
