// SPDX-License-Identifier: Apache-2.0
// What a layer says about adapters: a slot lists the kinds it accepts, as types; a layer without one carries
// nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

/// Kinds as bits, so that a slot's list is one number in a Program.
enum class AdapterKind : std::uint32_t {
  lora = 1u << 0,
  dora = 1u << 1, ///< any kind with a magnitude vector
  loha = 1u << 2,
  lokr = 1u << 3,
  ia3 = 1u << 4,
  oft = 1u << 5,
  boft = 1u << 6,
  glora = 1u << 7,
  vera = 1u << 8,
  diff = 1u << 9,  ///< a stored difference of the weight, or a weight that takes its place
  bias = 1u << 10, ///< a change of the module's bias
};

inline constexpr int adapter_kind_count = 11;

[[nodiscard]] constexpr std::string_view adapter_kind_name(AdapterKind kind) noexcept {
  constexpr std::string_view names[] = {"LoRA", "DoRA",  "LoHa", "LoKr", "IA3", "OFT",
                                        "BOFT", "GLoRA", "VeRA", "diff", "bias"};
  for (int i = 0; i < adapter_kind_count; ++i)
    if (static_cast<std::uint32_t>(kind) == 1u << i) return names[i];
  return "unknown";
}

inline constexpr std::int64_t any_rank = 0;

/// LoRA of compile-time rank: `delta = scale * B A`, A [rank, in], B [out, rank] (Hu et al. 2021, arXiv
/// 2106.09685). An adapter of this kind has bytes that are known before its file is opened.
template <std::int64_t Rank>
struct LoraOfRank {
  static_assert(Rank >= 0, "tenon::LoraOfRank: a rank is a positive number");
  static constexpr AdapterKind kind = AdapterKind::lora;
  static constexpr std::int64_t rank = Rank;
};

/// LoRA whose rank the file decides, slot by slot.
using Lora = LoraOfRank<any_rank>;

/// Kinds other than LoRA, whose ranks and blocks the file decides.
template <AdapterKind Kind>
struct KindOf {
  static constexpr AdapterKind kind = Kind;
  static constexpr std::int64_t rank = any_rank;
};
using Dora = KindOf<AdapterKind::dora>;   ///< Liu et al. 2024, arXiv 2402.09353
using LoHa = KindOf<AdapterKind::loha>;   ///< Hyeon-Woo et al. 2021, arXiv 2108.06098
using LoKr = KindOf<AdapterKind::lokr>;   ///< Yeh et al. 2023, arXiv 2309.14859
using Ia3 = KindOf<AdapterKind::ia3>;     ///< Liu et al. 2022, arXiv 2205.05638
using Oft = KindOf<AdapterKind::oft>;     ///< Qiu et al. 2023, arXiv 2306.07280
using Boft = KindOf<AdapterKind::boft>;   ///< Liu et al. 2023, arXiv 2311.06243
using GLora = KindOf<AdapterKind::glora>; ///< Chavan et al. 2023, arXiv 2306.07967
using Vera = KindOf<AdapterKind::vera>;   ///< Kopiczko et al. 2023, arXiv 2310.11454
using Diff = KindOf<AdapterKind::diff>;
using Bias = KindOf<AdapterKind::bias>;

/// A place where adapters of the given kinds may be attached: `Linear<"q", D, D, Slot<Lora>>`.
template <class... Kinds>
struct Slot {
  static_assert(sizeof...(Kinds) > 0, "tenon::Slot: name at least one adapter kind, or use NoSlot");
  static constexpr std::uint32_t kinds = (static_cast<std::uint32_t>(Kinds::kind) | ...);
};

/// A slot for every kind there is; what a layer has unless it says otherwise.
using AnySlot = Slot<Lora, Dora, LoHa, LoKr, Ia3, Oft, Boft, GLora, Vera, Diff, Bias>;

/// No adapter may be attached here; the layer carries no code for one.
struct NoSlot {
  static constexpr std::uint32_t kinds = 0;
};

[[nodiscard]] constexpr bool slot_accepts(std::uint32_t kinds, AdapterKind kind) noexcept {
  return (kinds & static_cast<std::uint32_t>(kind)) != 0;
}

/// "LoRA, DoRA": the names of a slot's kinds; "any kind" for all of them.
[[nodiscard]] inline std::string slot_kinds_text(std::uint32_t kinds) {
  if (kinds == AnySlot::kinds) return "any kind";
  std::string out;
  for (int i = 0; i < adapter_kind_count; ++i) {
    const auto kind = static_cast<AdapterKind>(1u << i);
    if (!slot_accepts(kinds, kind)) continue;
    if (!out.empty()) out += ", ";
    out += adapter_kind_name(kind);
  }
  return out.empty() ? "none" : out;
}

} // namespace tenon
