// SPDX-License-Identifier: Apache-2.0
// What a combination is told: the adapters with their weights and masks, the method and its settings.
#pragma once

#include <tenon/adapters/combine_method.hpp>
#include <tenon/adapters/lora_pair.hpp>
#include <tenon/adapters/task_tensors.hpp>
#include <tenon/adapters/to_lora.hpp>

#include <cstdint>
#include <span>

namespace tenon {

/// One adapter of several. The masks are for DARE, an element each, 0 drops it: given, they are used as they are;
/// empty, they are drawn from the options' seed.
struct CombineTerm {
  const LoraPair* pair = nullptr;
  double weight = 1; ///< may be negative
  std::span<const std::uint8_t> keep_a{};
  std::span<const std::uint8_t> keep_b{};
  std::span<const std::uint8_t> keep_delta{}; ///< [out, in], for the methods on deltas
};

/// Methods on factors take the root of |weight * scale| into A and B; its sign goes into one of them.
enum class SignSide : std::uint8_t {
  a, ///< as PEFT has it
  b, ///< for an embedding, whose A PEFT stores as the table's side
};

struct CombineOptions {
  CombineMethod method = CombineMethod::cat;
  double density = 1;                          ///< share of elements kept, of the methods that prune
  SignElection election = SignElection::total; ///< of ties and dare_ties
  SignSide sign_side = SignSide::a;
  ToLoraOptions svd{}; ///< rank and all else of the `*_svd` methods; a `most` of 0: the largest of the ranks
  std::uint64_t seed = 0; ///< of DARE's masks
};

/// Mixes a few numbers into a seed of their own.
[[nodiscard]] constexpr std::uint64_t mix_seed(std::uint64_t seed, std::uint64_t a,
                                               std::uint64_t b) noexcept {
  std::uint64_t z = seed ^ (a + 1) * 0xD1342543DE82EF95U ^ (b + 1) * 0xAF251AF3B0F025B5U;
  z = (z ^ (z >> 32U)) * 0xD6E8FEB86659FD93U;
  return z ^ (z >> 32U);
}

} // namespace tenon
