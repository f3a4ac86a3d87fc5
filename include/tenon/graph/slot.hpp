// SPDX-License-Identifier: Apache-2.0
// What a layer says about adapters: a slot lists the kinds it accepts, as types; a layer without one carries
// nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

/// Kinds as bits, so that a slot's list is one number in a Program.
enum class AdapterKind : std::uint32_t { lora = 1u << 0 };

[[nodiscard]] constexpr std::string_view adapter_kind_name(AdapterKind kind) noexcept {
  return kind == AdapterKind::lora ? "LoRA" : "unknown";
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

/// A place where adapters of the given kinds may be attached: `Linear<"q", D, D, Slot<Lora>>`.
template <class... Kinds>
struct Slot {
  static_assert(sizeof...(Kinds) > 0, "tenon::Slot: name at least one adapter kind, or use NoSlot");
  static constexpr std::uint32_t kinds = (static_cast<std::uint32_t>(Kinds::kind) | ...);
};

/// No adapter may be attached here; the layer carries no code for one.
struct NoSlot {
  static constexpr std::uint32_t kinds = 0;
};

[[nodiscard]] constexpr bool slot_accepts(std::uint32_t kinds, AdapterKind kind) noexcept {
  return (kinds & static_cast<std::uint32_t>(kind)) != 0;
}

/// "LoRA": the names of a slot's kinds.
[[nodiscard]] inline std::string slot_kinds_text(std::uint32_t kinds) {
  return slot_accepts(kinds, AdapterKind::lora) ? std::string(adapter_kind_name(AdapterKind::lora)) : "none";
}

} // namespace tenon
