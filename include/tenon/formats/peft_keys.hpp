// SPDX-License-Identifier: Apache-2.0
// The names of tensors in PEFT's adapter_model.safetensors, as a table of endings:
//   base_model.model.<module>.lora_A.weight, with or without the adapter's name before `.weight`.
// Names are only taken apart as far as the module; which slot that is, the net's own table of names decides.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tenon {

/// What a tensor of an adapter file is to its module.
enum class AdapterPart : std::uint8_t {
  lora_a,         ///< A [rank, in]
  lora_b,         ///< B [out, rank]
  lora_bias,      ///< a bias on B (lora_bias=True)
  dora_magnitude, ///< the vector m of DoRA
  embedding,      ///< a factor of an embedding's LoRA
  saved_module,   ///< a whole tensor that was trained (modules_to_save, bias)
};

[[nodiscard]] constexpr std::string_view adapter_part_name(AdapterPart part) noexcept {
  constexpr std::string_view names[] = {"LoRA A",         "LoRA B",         "LoRA bias",
                                        "DoRA magnitude", "embedding LoRA", "a saved module"};
  return names[static_cast<std::size_t>(part)];
}

struct AdapterKey {
  std::string_view module; ///< path in the net, as the model's own names
  AdapterPart part;
};

inline constexpr std::string_view peft_prefix = "base_model.model.";

struct PeftEnding {
  std::string_view infix; ///< stands after the module; what follows it may hold an adapter's name
  std::string_view tail;  ///< ends the key
  AdapterPart part;
};

inline constexpr std::array<PeftEnding, 7> peft_endings{{
    {".lora_A", ".weight", AdapterPart::lora_a},
    {".lora_B", ".weight", AdapterPart::lora_b},
    {".lora_B", ".bias", AdapterPart::lora_bias},
    {".lora_magnitude_vector", "", AdapterPart::dora_magnitude},
    {".lora_embedding_A", "", AdapterPart::embedding},
    {".lora_embedding_B", "", AdapterPart::embedding},
    {".modules_to_save", "", AdapterPart::saved_module},
}};

/// Takes a key apart; nothing if it has not PEFT's prefix. A key with the prefix and no known ending is a
/// saved module.
[[nodiscard]] constexpr std::optional<AdapterKey> parse_peft_key(std::string_view key) noexcept {
  if (!key.starts_with(peft_prefix)) return std::nullopt;
  key.remove_prefix(peft_prefix.size());
  for (const PeftEnding& ending : peft_endings) {
    const std::size_t at = key.rfind(ending.infix);
    if (at == std::string_view::npos || !key.ends_with(ending.tail)) continue;
    const std::size_t after = at + ending.infix.size();
    if (after + ending.tail.size() > key.size()) continue;
    const std::string_view name = key.substr(after, key.size() - after - ending.tail.size());
    if (name.empty() || name.front() == '.') return AdapterKey{key.substr(0, at), ending.part};
  }
  return AdapterKey{key, AdapterPart::saved_module};
}

} // namespace tenon
