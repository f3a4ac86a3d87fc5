// SPDX-License-Identifier: Apache-2.0
// Which instructions the kernels use. They are compiled for several sets, whatever flags the program is
// compiled with, and the best one that the processor has is taken at run time. The environment variable
// TENON_INSTRUCTION_SET (portable, avx2, avx512, avx512_bf16, amx) asks for another, so that each can be tested on one
// machine.
// Results of two sets differ by float rounding; those of one set are the same on every machine. Any thread.
#pragma once

#include <tenon/core/cpu_features.hpp>
#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace tenon::kernels {

/// In ascending order: a processor that has one has those before it.
enum class InstructionSet : std::uint8_t {
  portable,    ///< what the program was compiled for: SSE2 on x86-64, NEON on ARM, unless flags say more
  avx2,        ///< with FMA and F16C: 8 floats together
  avx512,      ///< AVX-512F: 16 floats together
  avx512_bf16, ///< the same, and products of 32 pairs of bfloat16 added to 16 floats
  amx,         ///< the same, and a matrix unit for bfloat16, which the system permits this process to use
};

inline constexpr std::array<std::string_view, 5> instruction_set_names = {"portable", "avx2", "avx512",
                                                                          "avx512_bf16", "amx"};

[[nodiscard]] constexpr std::string_view instruction_set_name(InstructionSet set) noexcept {
  return instruction_set_names[static_cast<std::size_t>(set)];
}

/// The best set of a processor with these features.
[[nodiscard]] constexpr InstructionSet best_instruction_set(const CpuFeatures& cpu) noexcept {
  if (!(cpu.avx2 && cpu.fma && cpu.f16c)) return InstructionSet::portable;
  if (!cpu.avx512f) return InstructionSet::avx2;
  if (!cpu.avx512_bf16) return InstructionSet::avx512;
  const bool has_tiles = cpu.amx_tile && cpu.amx_bf16 && cpu.tiles_permitted;
  return has_tiles ? InstructionSet::amx : InstructionSet::avx512_bf16;
}

/// What `wanted`, the value of TENON_INSTRUCTION_SET, asks of this processor. Nothing or "" is the best set.
/// Throws tenon::error (bad_argument) for another name, and (unsupported) for a set that it does not have.
[[nodiscard]] inline InstructionSet chosen_instruction_set(std::string_view wanted, const CpuFeatures& cpu) {
  const InstructionSet best = best_instruction_set(cpu);
  if (wanted.empty()) return best;
  for (std::size_t i = 0; i < instruction_set_names.size(); ++i) {
    if (wanted != instruction_set_names[i]) continue;
    const auto set = static_cast<InstructionSet>(i);
    if (set <= best) return set;
    throw error(ErrorCode::unsupported,
                concat("TENON_INSTRUCTION_SET=", wanted, ": this processor has ", cpu.text(),
                       "; leave the variable unset, or set it to ", instruction_set_name(best)));
  }
  throw error(ErrorCode::bad_argument,
              concat("TENON_INSTRUCTION_SET=", wanted,
                     ": expected portable, avx2, avx512, avx512_bf16 or amx, or no such variable"));
}

/// The set this process uses, decided at the first call. Throws as `chosen_instruction_set`.
[[nodiscard]] inline InstructionSet active_instruction_set() {
  static const InstructionSet set = [] {
    const char* const wanted = std::getenv("TENON_INSTRUCTION_SET");
    const std::string_view name = wanted == nullptr ? "" : wanted;
    const bool may_be_tiles = name.empty() || name == instruction_set_name(InstructionSet::amx);
    return chosen_instruction_set(
        name, cpu_features(may_be_tiles ? TilePermission::ask : TilePermission::do_not_ask));
  }();
  return set;
}

} // namespace tenon::kernels
