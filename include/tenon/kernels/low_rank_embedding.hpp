// SPDX-License-Identifier: Apache-2.0
// The side path of a table of embeddings: a term whose B is [size, rank], a row for each id, and whose A is
// [rank, width] (PEFT's lora_embedding_A and _B, transposed). y += scale * B[id] A for the rows of some ids.
// Cost: 2 rank width flops an id; scratch as `low_rank_embedding_scratch_bytes`, whatever the number of ids.
// Threads share the ids.
#pragma once

#include <tenon/kernels/gemm.hpp>
#include <tenon/kernels/low_rank.hpp>
#include <tenon/kernels/low_rank_term.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/kernels/scratch.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/kernels/workers.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tenon::kernels {

inline constexpr std::int64_t embedding_tile = 32; ///< ids taken together

/// Scratch of `low_rank_embedding_add` for rows of `width`, a thread.
[[nodiscard]] constexpr std::int64_t low_rank_embedding_scratch_bytes(std::int64_t width) noexcept {
  return scratch_sum({scratch_bytes<float>(embedding_tile * low_rank_depth),
                      multiply_scratch_bytes(embedding_tile, width, low_rank_depth)});
}

/// y [ids, width] += sum_i s_i B_i[id] A_i, with the terms' gains; an id that a term has no row for gets
/// nothing. Precondition: the ids are not negative.
inline void low_rank_embedding_add(std::span<const std::int32_t> ids, std::span<const LowRankTerm> terms,
                                   Matrix y, Workers workers,
                                   const VectorKernels& kernels = vector_kernels()) {
  assert(y.rows == std::ssize(ids) && "low_rank_embedding_add: shapes [ids] [ids,width]");
  workers.share(y.rows, embedding_tile, 2 * total_rank(terms) * y.cols,
                [&](std::int64_t begin, std::int64_t total, Scratch scratch) {
                  const auto room = scratch.take<float>(embedding_tile * low_rank_depth);
                  for (std::int64_t i = begin; i < begin + total; i += embedding_tile)
                    for (const LowRankTerm& term : terms)
                      for (std::int64_t k = 0; k < term.a.rows; k += low_rank_depth) {
                        const std::int64_t depth = std::min(low_rank_depth, term.a.rows - k);
                        const Matrix b{room.data(), std::min(embedding_tile, begin + total - i), depth,
                                       depth};
                        for (std::int64_t r = 0; r < b.rows; ++r) {
                          const std::int64_t row = ids[static_cast<std::size_t>(i + r)] - term.first_row;
                          if (row < 0 || row >= term.b.rows)
                            std::fill_n(b.row(r), depth, 0.0f);
                          else
                            gather_row_of_b(kernels, term, row, k, depth, b.row(r));
                        }
                        multiply_nn(b, term.a.block(k, 0, depth, y.cols), 1.0f, y.rows_from(i, b.rows),
                                    scratch, kernels);
                      }
                });
}

} // namespace tenon::kernels
