// SPDX-License-Identifier: Apache-2.0
// What one thread of this machine can do at most, as far as a plain loop shows: reading and copying memory that is in no
// cache, multiply-adds on values that stay in registers (AVX-512, or AVX2 and FMA, where the processor has them), and
// those of pairs of bfloat16.
#pragma once

#include <tenon/core/cpu_features.hpp>

#include "line_protocol.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#define TENON_PEERS_AVX2 __attribute__((target("avx2,fma")))
#else
#define TENON_PEERS_AVX2
#endif

namespace tenon::peers {

using EightFloats = float __attribute__((vector_size(32)));
using EightWords = std::uint32_t __attribute__((vector_size(32)));

/// Results go here, so that the compiler cannot leave the loops out.
inline volatile float sink = 0;

/// Sums of 32-bit words in eight chains: reads all of `bytes` but an end of less than 256. Words, since bytes that are no
/// floats may be slow to add as such.
TENON_PEERS_AVX2 inline std::uint32_t sum_words(std::span<const std::byte> bytes) {
  EightWords sums[8]{};
  for (std::size_t i = 0; i + sizeof sums <= bytes.size(); i += sizeof sums)
    for (std::size_t k = 0; k < 8; ++k) {
      EightWords next;
      std::memcpy(&next, bytes.data() + i + k * sizeof next, sizeof next);
      sums[k] += next;
    }
  std::uint32_t total = 0;
  for (const EightWords& sum : sums)
    for (int lane = 0; lane < 8; ++lane) total += sum[lane];
  return total;
}

/// Twelve chains of multiply-adds, `rounds` long: 2 * 8 * 12 operations a round.
TENON_PEERS_AVX2 inline float multiply_adds(std::int64_t rounds) {
  EightFloats a[12];
  for (int k = 0; k < 12; ++k) a[k] = EightFloats{} + static_cast<float>(k);
  const EightFloats factor = EightFloats{} + 0.999f;
  const EightFloats term = EightFloats{} + 0.001f;
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) {
#if defined(__x86_64__)
      a[k] = _mm256_fmadd_ps(a[k], factor, term);
#else
      a[k] = a[k] * factor + term;
#endif
    }
  }
  float total = 0;
  for (const EightFloats& chain : a) total += chain[0];
  return total;
}

#if defined(__x86_64__)
using SixteenFloats = float __attribute__((vector_size(64)));

template <bool Pairs>
__attribute__((always_inline, target("avx512f"))) inline void add_wide(SixteenFloats& sum, SixteenFloats a,
                                                                       SixteenFloats b) {
  if constexpr (Pairs)
    asm volatile("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  else
    asm volatile("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}
/// As `multiply_adds`, as many chains as there are numbers K: 2 * 16 operations each a round, or with pairs of bfloat16
/// twice as many.
template <bool Pairs, std::size_t... K>
__attribute__((target("avx512f"))) inline float wide_multiply_adds(std::index_sequence<K...>,
                                                                   std::int64_t rounds) {
  SixteenFloats sums[] = {(static_cast<void>(K), SixteenFloats{})...};
  for (std::int64_t i = 0; i < rounds; ++i) (add_wide<Pairs>(sums[K], SixteenFloats{}, SixteenFloats{}), ...);
  return (sums[K][0] + ...);
}
inline constexpr std::make_index_sequence<12> wide_chains{};
#endif

/// Runs `rounds` rounds of the widest multiply-adds that the processor has, of pairs of bfloat16 if `pairs`. Returns the
/// operations of a round, 0 where it has none.
inline double run_multiply_adds(bool pairs, std::int64_t rounds) {
#if defined(__x86_64__)
  if (pairs && tenon::cpu_features().avx512_bf16) {
    sink = wide_multiply_adds<true>(wide_chains, rounds);
    return 4.0 * 16 * 12;
  }
  if (!pairs && tenon::cpu_features().avx512f) {
    sink = wide_multiply_adds<false>(wide_chains, rounds);
    return 2.0 * 16 * 12;
  }
#endif
  if (pairs) return 0;
  sink = multiply_adds(rounds);
  return 2.0 * 8 * 12;
}

/// read, copy: GB/s (a copy counts its bytes twice); fma, pairs: GFLOP/s, 0 where there are none. The best of seven.
[[nodiscard]] inline double limit(const std::string& what) {
  const bool computes = what == "fma" || what == "pairs";
  std::vector<float> from(computes ? 0 : std::size_t{64} << 20, 1.0f);
  std::vector<float> to(what == "copy" ? from.size() : 0, 2.0f);
  const auto bytes = static_cast<double>(from.size() * sizeof(float));
  constexpr std::int64_t rounds = 2'000'000;
  double best = 1e9;
  double operations = 0;
  for (int i = 0; i < 7; ++i)
    best = std::min(best, seconds([&] {
                      if (what == "read")
                        sink = static_cast<float>(sum_words(std::as_bytes(std::span(from))));
                      if (what == "copy") std::memcpy(to.data(), from.data(), from.size() * sizeof(float));
                      if (computes) operations = run_multiply_adds(what == "pairs", rounds);
                    }));
  if (what == "read") return bytes / best * 1e-9;
  if (what == "copy") return 2 * bytes / best * 1e-9;
  if (computes) return operations * rounds / best * 1e-9;
  throw std::runtime_error("no such limit: " + what);
}

} // namespace tenon::peers
