// SPDX-License-Identifier: Apache-2.0
// How many singular values a decomposition keeps: by number, by their share of the energy (the sum of squares)
// or by their share of the Frobenius norm (its root), and what that choice kept. By the theorem of Eckart,
// Young and Mirsky the first k are the best matrix of rank k, with the relative error sqrt(1 - energy).
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

namespace tenon {

/// The least rank that reaches both shares, but no more than `most`. By number alone: the defaults, and `most`.
struct RankRule {
  std::int64_t most = 16;
  double energy = 1;    ///< least share of the sum of squares, in (0, 1]
  double frobenius = 1; ///< least share of the norm, in (0, 1]; 1 and 1: the rank is `most`
};

/// What a choice of rank kept.
struct KeptRank {
  std::int64_t rank = 0;
  double energy = 1;    ///< share of the sum of squares
  double frobenius = 1; ///< share of the norm: its root
};

/// Throws `error{bad_argument}` for a rule that no rank can follow.
inline void check_rank_rule(const RankRule& rule) {
  if (rule.most < 1)
    throw error(ErrorCode::bad_argument, concat("rank: expected at least 1, got ", rule.most));
  if (!(rule.energy > 0 && rule.energy <= 1))
    throw error(ErrorCode::bad_argument, concat("energy to keep: expected a share above 0 and up to 1, got ",
                                                std::to_string(rule.energy)));
  if (!(rule.frobenius > 0 && rule.frobenius <= 1))
    throw error(ErrorCode::bad_argument, concat("norm to keep: expected a share above 0 and up to 1, got ",
                                                std::to_string(rule.frobenius)));
}

/// The choice among singular values, largest first, of a matrix whose squares sum to `total`. At least 1; with
/// shares to reach, zeros are never kept.
[[nodiscard]] inline KeptRank choose_rank(std::span<const double> sigma, double total, const RankRule& rule) {
  check_rank_rule(rule);
  const bool by_number = rule.energy == 1 && rule.frobenius == 1;
  const double wanted = std::max(rule.energy == 1 ? 0.0 : rule.energy,
                                 rule.frobenius == 1 ? 0.0 : rule.frobenius * rule.frobenius);
  const std::int64_t most = std::min(rule.most, std::ssize(sigma));
  KeptRank kept;
  double sum = 0;
  while (kept.rank < most) {
    const double square =
        sigma[static_cast<std::size_t>(kept.rank)] * sigma[static_cast<std::size_t>(kept.rank)];
    if (!by_number && kept.rank > 0 && (square == 0 || sum >= wanted * total * (1 - 1e-12))) break;
    sum += square;
    ++kept.rank;
  }
  kept.energy = total > 0 ? std::min(sum / total, 1.0) : 1.0;
  kept.frobenius = std::sqrt(kept.energy);
  return kept;
}

} // namespace tenon
