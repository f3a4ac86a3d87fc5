// SPDX-License-Identifier: Apache-2.0
// What an adapter is to a kernel: two factors and a scale. Apart from `low_rank.hpp`, so that headers which
// only pass terms on do not include Eigen.
#pragma once

#include <tenon/kernels/matrix.hpp>

namespace tenon::kernels {

/// One adapter at one weight [out, in]: its delta is scale * B A (Hu et al., arXiv:2106.09685, section 4.1).
struct LowRankTerm {
  WeightMatrix a{};   ///< [rank, in]; kohya's lora_down
  WeightMatrix b{};   ///< [out, rank]; kohya's lora_up
  float scale = 1.0f; ///< alpha / rank (rsLoRA: alpha / sqrt(rank)) times the user's weight
};

} // namespace tenon::kernels
