// SPDX-License-Identifier: Apache-2.0
// From the tensors of an OFT or BOFT file to a Rotation. Q is the skew part that a tensor stands for; the
// Cayley transform C(Q) = (I + Q) (I - Q)^-1 makes it orthogonal, and C(-Q) = C(Q)^T. Which of them a tool
// uses, on which side, and how it bounds Q, is in the table of RotationSource (kohya sd-scripts
// networks/oft.py; LyCORIS 4.1.3 functional/diag_oft.py, functional/boft.py; PEFT 0.21.2 tuners/oft/layer.py,
// tuners/boft/layer.py). All in float64, rounded once. Cost: 2 b^3 operations a block; memory of a few
// blocks while it runs.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/kernels/cayley.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/rotation.hpp>
#include <tenon/weights/convert.hpp>

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tenon::kernels {

/// | form         | Q of a stored X         | bound of Q                     | R              | acts on |
/// |--------------|-------------------------|--------------------------------|----------------|---------|
/// | kohya_oft    | X - X^T                 | all blocks' norm <= alpha size | C(-Q)          | rows    |
/// | lycoris_oft  | X - X^T                 | the same, where alpha > 0      | C(-Q)          | rows    |
/// | lycoris_boft | X - X^T                 | the same, where alpha > 0      | C(Q), m stages | rows    |
/// | peft_oft     | X above, -X^T below     | a block's norm <= eps/sqrt(n)  | C(-Q), or the  | columns |
/// |              | the diagonal, packed    | if `coft_eps` > 0              | series of C(Q) |         |
/// | peft_boft    | (X - X^T) / 2           | none                           | C(-Q), stages  | columns |
enum class RotationForm : std::uint8_t { kohya_oft, lycoris_oft, lycoris_boft, peft_oft, peft_boft };

struct RotationSource {
  RotationForm form = RotationForm::kohya_oft;
  /// A row for each block of each stage: b * b elements, or b (b - 1) / 2 for peft_oft (above the diagonal,
  /// row by row). One row a stage that all blocks share: PEFT's block_share.
  WeightMatrix blocks{};
  std::int64_t stages = 1;
  std::int64_t block = 0; ///< b
  std::int64_t size = 0;  ///< of the axis that is rotated
  double alpha = 0.0;     ///< kohya's and LyCORIS's: no scale, but a bound
  double coft_eps = 0.0;  ///< PEFT's `eps` where its `coft` is true
  int neumann_terms = 0;  ///< PEFT's num_cayley_neumann_terms where use_cayley_neumann is true; else 0
  WeightVector rescale{}; ///< LyCORIS's `rescale`, PEFT's `boft_s`: [rows of W]
};

/// Floats that the prepared rotation needs.
[[nodiscard]] inline std::int64_t rotation_floats(const RotationSource& source) noexcept {
  return source.blocks.rows * source.block * source.block + source.rescale.size;
}

/// Throws shape_error for blocks that do not tile the axis.
inline void check_rotation(const RotationSource& source) {
  const std::int64_t b = source.block;
  const bool is_packed = source.form == RotationForm::peft_oft;
  const std::int64_t wanted = is_packed ? b * (b - 1) / 2 : b * b;
  if (b <= 0 || source.stages <= 0 || source.blocks.cols != wanted)
    throw shape_error(ErrorCode::wrong_shape,
                      concat("rotation: expected ", wanted, " elements a block of ", b, " by ", b, ", got ",
                             source.blocks.cols, "; the adapter's file does not fit its configuration"));
  const std::int64_t stored = source.blocks.rows / source.stages;
  if (source.blocks.rows % source.stages != 0 || source.size % b != 0 ||
      (stored != source.size / b && stored != 1))
    throw shape_error(ErrorCode::wrong_shape,
                      concat("rotation: expected ", source.stages, " stages of ", source.size, " / ", b,
                             " blocks, or of one for all, got ", source.blocks.rows,
                             " blocks; the adapter is for a weight of another shape"));
  const bool is_of_rows = source.form != RotationForm::peft_oft && source.form != RotationForm::peft_boft;
  if (is_of_rows && !source.rescale.empty() && source.rescale.size != source.size)
    throw shape_error(ErrorCode::wrong_shape,
                      concat("rotation: expected a rescale of ", source.size, " rows, got ",
                             source.rescale.size, "; the adapter is for a weight of another shape"));
  const bool is_butterfly =
      source.form == RotationForm::lycoris_boft || source.form == RotationForm::peft_boft;
  const bool needs_halves = is_butterfly && (source.stages > 1 || source.form == RotationForm::lycoris_boft);
  if ((!is_butterfly && source.stages != 1) || (needs_halves && b % 2 != 0) || source.stages > 32 ||
      source.size % (b << (source.stages - 1)) != 0)
    throw shape_error(ErrorCode::wrong_shape,
                      concat("rotation: expected groups of ", b, " * 2^", source.stages - 1,
                             " positions to fill ", source.size,
                             ", with an even block if it has halves; the adapter is for a weight of "
                             "another shape"));
}

/// Q of one block, unbounded.
[[nodiscard]] inline SquareMatrix skew_of(const RotationSource& source, std::int64_t number) {
  const std::int64_t b = source.block;
  std::vector<float> stored(static_cast<std::size_t>(source.blocks.cols));
  decode(source.blocks.dtype, source.blocks.at(number, 0), source.blocks.cols, stored.data());
  const bool is_packed = source.form == RotationForm::peft_oft;
  const double half = source.form == RotationForm::peft_boft ? 0.5 : 1.0;
  SquareMatrix q(b);
  const float* next = stored.data();
  for (std::int64_t i = 0; i < b; ++i)
    for (std::int64_t j = i + 1; j < b; ++j) {
      const double above =
          static_cast<double>(is_packed ? *next++ : stored[static_cast<std::size_t>(i * b + j)]);
      const double below = is_packed ? 0.0 : static_cast<double>(stored[static_cast<std::size_t>(j * b + i)]);
      q.row(i)[j] = half * (above - below);
      q.row(j)[i] = -q.row(i)[j];
    }
  return q;
}

/// What Q of every block is multiplied by, so that all of them together keep the bound of alpha.
[[nodiscard]] inline double bound_of_all(const RotationSource& source) {
  const bool is_kohya = source.form == RotationForm::kohya_oft;
  const bool is_lycoris =
      source.form == RotationForm::lycoris_oft || source.form == RotationForm::lycoris_boft;
  if (!is_kohya && !(is_lycoris && source.alpha > 0)) return 1.0;
  double squares = 0;
  for (std::int64_t i = 0; i < source.blocks.rows; ++i) squares += skew_of(source, i).squares();
  constexpr double least = 1e-8; // both tools'
  const double norm = std::sqrt(squares);
  const double most = source.alpha * static_cast<double>(source.size);
  if (is_kohya) return (std::min(norm, most) + least) / (norm + least);
  return norm + least > most ? most / (norm + least) : 1.0;
}

/// The same for one block, of PEFT's coft.
[[nodiscard]] inline double bound_of_block(const RotationSource& source, const SquareMatrix& q) {
  if (source.form != RotationForm::peft_oft || !(source.coft_eps > 0)) return 1.0;
  const double most = source.coft_eps / std::sqrt(static_cast<double>(source.blocks.rows));
  const double norm = std::sqrt(q.squares());
  return norm <= most ? 1.0 : most / norm;
}

/// The rotation of a file's tensors, which lives in `to`: at least `rotation_floats(source)`. Throws
/// shape_error for blocks that do not tile the axis, before anything is written.
[[nodiscard]] inline Rotation prepare_rotation(const RotationSource& source, std::span<float> to) {
  check_rotation(source);
  assert(std::ssize(to) >= rotation_floats(source) && "prepare_rotation: as many floats as rotation_floats");
  const std::int64_t b = source.block;
  const bool is_of_columns = source.form == RotationForm::peft_oft || source.form == RotationForm::peft_boft;
  const bool is_turned = source.form != RotationForm::lycoris_boft; // C(-Q)
  const double bound = bound_of_all(source);
  for (std::int64_t i = 0; i < source.blocks.rows; ++i) {
    SquareMatrix q = skew_of(source, i);
    q.scale(bound * bound_of_block(source, q));
    const bool is_series = source.form == RotationForm::peft_oft && source.neumann_terms > 0;
    if (is_turned && !is_series) q.scale(-1.0);
    const SquareMatrix r = is_series ? cayley_series(q, source.neumann_terms) : cayley(std::move(q));
    for (std::int64_t k = 0; k < b; ++k)
      for (std::int64_t l = 0; l < b; ++l)
        to[static_cast<std::size_t>((i * b + k) * b + l)] = static_cast<float>(r.row(k)[l]);
  }
  Rotation rotation{.axis = is_of_columns ? RotatedAxis::cols : RotatedAxis::rows,
                    .strength = is_of_columns ? RotationStrength::whole : RotationStrength::stages,
                    .size = source.size,
                    .block = b,
                    .stages = source.stages,
                    .stored = source.blocks.rows / source.stages,
                    .blocks = to.data()};
  if (source.form == RotationForm::lycoris_boft) rotation.unit = 1;
  if (source.form == RotationForm::peft_boft && source.stages > 1) rotation.unit = b / 2;
  if (!source.rescale.empty()) {
    float* const rescale = to.data() + source.blocks.rows * b * b;
    decode(source.rescale.dtype, source.rescale.data, source.rescale.size, rescale);
    rotation.rescale = rescale;
  }
  return rotation;
}

} // namespace tenon::kernels
