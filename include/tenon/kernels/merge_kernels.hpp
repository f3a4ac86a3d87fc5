// SPDX-License-Identifier: Apache-2.0
// The merge's own inner loops for each instruction set, beside those of vector_kernels.hpp and chosen with them.
// It has a header of its own since it costs a translation unit that merges half a second to compile, and
// others nothing.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/kernels/instruction_set.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/merge_loss.hpp>
#include <tenon/kernels/merge_part.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/weights/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

#if !defined(TENON_COMPILED)
#define TENON_KERNELS_LINKAGE inline constexpr
#elif TENON_HAS_BODIES
#define TENON_KERNELS_LINKAGE extern const
#endif
#if defined(TENON_KERNELS_LINKAGE)
#include <tenon/kernels/merge_code.hpp>
#endif

namespace tenon::kernels {

/// One instruction set's merging loops.
struct MergeKernels {
  /// out [rows, cols] = base + left [rows, depth] panels [depth, cols]: each sum over the depth in order, from zero,
  /// then added to the weight and rounded once. Reads no column of the base and writes none of `out` past the last.
  /// For a base of bfloat16 a row of a panel has its even columns before its odd ones.
  void (*merge_rows)(WeightMatrix base, ConstMatrix left, const float* panels, MergedRows out) noexcept;
  /// out = base + scale tile, whose rows have room for whole panels; as `merge_rows` where that is left panels
  void (*add_tile)(WeightMatrix base, ConstMatrix tile, float scale, std::byte* out,
                   std::int64_t out_stride) noexcept;
  /// loss += what the merged weights [rows, cols], of the base's type, lost of base + scale delta; in double
  void (*measure)(WeightMatrix base, ConstMatrix delta, float scale, const std::byte* merged,
                  std::int64_t stride, MergeLoss& loss) noexcept;
  /// As `merge_rows`, for products of left [rows, pairs] and panels [pairs, cols] of pairs of bfloat16 that follow one
  /// another along the pairs, each times its scale; null where the processor multiplies no pairs.
  void (*merge_pairs)(WeightMatrix base, const std::uint16_t* left, std::int64_t pairs,
                      std::span<const PairProduct> products, const std::uint16_t* panels,
                      MergedRows out) noexcept = nullptr;
};

#if defined(TENON_KERNELS_LINKAGE)
TENON_KERNELS_LINKAGE MergeKernels portable_merge = {portable::merge_rows, portable::add_tile,
                                                     portable::measure};
#if defined(__x86_64__)
TENON_KERNELS_LINKAGE MergeKernels avx2_merge = {avx2::merge_rows, avx2::add_tile, avx2::measure};
TENON_KERNELS_LINKAGE MergeKernels avx512_merge = {avx512::merge_rows, avx512::add_tile, avx512::measure};
TENON_KERNELS_LINKAGE MergeKernels avx512_bf16_merge = {avx512::merge_rows, avx512::add_tile, avx512::measure,
                                                        avx512::merge_pairs};
#endif
#undef TENON_KERNELS_LINKAGE
#else
extern const MergeKernels portable_merge;
#if defined(__x86_64__)
extern const MergeKernels avx2_merge;
extern const MergeKernels avx512_merge;
extern const MergeKernels avx512_bf16_merge;
#endif
#endif

/// The loops for `set`. Precondition: the processor has it.
[[nodiscard]] constexpr const MergeKernels& merge_kernels(InstructionSet set) noexcept {
#if defined(__x86_64__)
  if (set >= InstructionSet::avx512_bf16) return avx512_bf16_merge;
  if (set == InstructionSet::avx512) return avx512_merge;
  if (set == InstructionSet::avx2) return avx2_merge;
#endif
  static_cast<void>(set);
  return portable_merge;
}

} // namespace tenon::kernels
