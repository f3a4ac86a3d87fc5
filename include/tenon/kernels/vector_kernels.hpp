// SPDX-License-Identifier: Apache-2.0
// The inner loops of every product and merge, compiled for several instruction sets by function attributes,
// behind one table of functions that is chosen at run time. What works on them (gemm.hpp, low_rank.hpp,
// merge.hpp) is ordinary code. A panel is what the products read: a matrix in slices of `width` columns, each
// slice stored row by row, so that a row of a slice is two vector registers; the columns past the last are
// zeros.
//
// The loops cost a translation unit about a second, or nothing where they are compiled once (core/compiled.hpp).
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/kernels/instruction_set.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/weights/dtype.hpp>

#include <cstddef>
#include <cstdint>

#if !defined(TENON_COMPILED)
#define TENON_KERNELS_LINKAGE inline constexpr
#elif TENON_HAS_BODIES
#define TENON_KERNELS_LINKAGE extern const
#endif
#if defined(TENON_KERNELS_LINKAGE)
#include <tenon/kernels/vector_code.hpp>
#endif

namespace tenon::kernels {

/// The widest panel of any set: what scratch is planned for.
inline constexpr std::int64_t max_panel_width = 32;

/// One instruction set's inner loops.
struct VectorKernels {
  InstructionSet set;
  std::int64_t width; ///< columns of a panel
  std::int64_t rows;  ///< of `left` that go through a panel together
  /// out [rows, width] += alpha left [rows, depth] panel [depth, width]: whole rows of a panel, so `out` must
  /// have room for them
  void (*multiply_panel)(ConstMatrix left, const float* panel, float alpha, Matrix out) noexcept;
  /// to [cols, rows] += from [rows, cols] transposed
  void (*add_transposed)(ConstMatrix from, Matrix to) noexcept;
  /// y[r] += alpha sum_k w[r][k] x[k] for every row of w, which is read once: its quarters together, each in order
  void (*dot_rows)(WeightMatrix w, const float* x, float alpha, float* y) noexcept;
  /// as tenon::decode and tenon::encode
  void (*decode)(DType type, const std::byte* from, std::int64_t n, float* to) noexcept;
  void (*encode)(DType type, const float* from, std::int64_t n, std::byte* to) noexcept;
  /// from [32, 16] in three bfloat16 parts whose sum it is: three tiles, one after the other, in which a row holds
  /// two of `from`, element by element in turn, as a matrix unit reads its right operand
  void (*split_tile)(const float* from, std::uint16_t* to) noexcept;
  /// from [rows, cols] rounded to bfloat16, each two rows element by element in turn. Preconditions: rows are even, cols
  /// a multiple of 16
  void (*round_pairs)(ConstMatrix from, std::uint16_t* to) noexcept;
  /// As `multiply_panel`, for a left operand of bfloat16 and a panel of `round_pairs`, max_panel_width wide, whose depth
  /// is left's or one more; begins to read `next`, whose rows are as long as left's and which is multiplied next. Null
  /// where the processor multiplies no pairs
  void (*multiply_pairs)(WeightMatrix left, const std::uint16_t* panel, float alpha, Matrix out,
                         WeightMatrix next) noexcept = nullptr;
};

#if defined(TENON_KERNELS_LINKAGE)
// NOLINTBEGIN(bugprone-macro-parentheses): a list of members
#define TENON_KERNELS_OF(set, name, ...)                                                                     \
  {InstructionSet::set,  name::width,       name::group,  name::multiply_panel,                              \
   name::add_transposed, name::dot_rows,    name::decode, name::encode,                                      \
   name::split_tile,     name::round_pairs, __VA_ARGS__}
// NOLINTEND(bugprone-macro-parentheses)
TENON_KERNELS_LINKAGE VectorKernels portable_kernels = TENON_KERNELS_OF(portable, portable, nullptr);
#if defined(__x86_64__)
TENON_KERNELS_LINKAGE VectorKernels avx2_kernels = TENON_KERNELS_OF(avx2, avx2, nullptr);
TENON_KERNELS_LINKAGE VectorKernels avx512_kernels = TENON_KERNELS_OF(avx512, avx512, nullptr);
TENON_KERNELS_LINKAGE VectorKernels avx512_bf16_kernels =
    TENON_KERNELS_OF(avx512_bf16, avx512, avx512::multiply_pairs);
TENON_KERNELS_LINKAGE VectorKernels amx_kernels = TENON_KERNELS_OF(amx, avx512, avx512::multiply_pairs);
#endif
#undef TENON_KERNELS_OF
#undef TENON_KERNELS_LINKAGE
#else
extern const VectorKernels portable_kernels;
#if defined(__x86_64__)
extern const VectorKernels avx2_kernels;
extern const VectorKernels avx512_kernels;
extern const VectorKernels avx512_bf16_kernels;
extern const VectorKernels amx_kernels;
#endif
#endif

/// The loops for `set`. Precondition: the processor has it.
[[nodiscard]] constexpr const VectorKernels& vector_kernels(InstructionSet set) noexcept {
#if defined(__x86_64__)
  if (set == InstructionSet::amx) return amx_kernels;
  if (set == InstructionSet::avx512_bf16) return avx512_bf16_kernels;
  if (set == InstructionSet::avx512) return avx512_kernels;
  if (set == InstructionSet::avx2) return avx2_kernels;
#endif
  static_cast<void>(set);
  return portable_kernels;
}

/// The loops this process uses. The first call may throw, as `active_instruction_set` does; opening a model
/// is one.
[[nodiscard]] TENON_INLINE const VectorKernels& vector_kernels();
#if TENON_HAS_BODIES
TENON_INLINE const VectorKernels& vector_kernels() { return vector_kernels(active_instruction_set()); }
#endif

} // namespace tenon::kernels
