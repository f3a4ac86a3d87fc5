// SPDX-License-Identifier: Apache-2.0
// One module of an adapter's file, bound to one module of a model: which kind its tensors make, whether the slot takes
// it, and then that kind's own binding.
#pragma once

#include <tenon/adapters/bind_diff.hpp>
#include <tenon/adapters/bind_glora.hpp>
#include <tenon/adapters/bind_ia3.hpp>
#include <tenon/adapters/bind_lora.hpp>
#include <tenon/adapters/bind_peft_glora.hpp>
#include <tenon/adapters/bind_products.hpp>
#include <tenon/adapters/bind_rotation.hpp>
#include <tenon/adapters/bind_vera.hpp>
#include <tenon/adapters/module_binding.hpp>

#include <initializer_list>
#include <optional>
#include <string>

namespace tenon {

/// Parts that change the result and that nothing here applies: a finding for each.
[[nodiscard]] inline bool has_unknown_parts(const ModuleBinding& binding) {
  using enum AdapterPart;
  bool has_any = false;
  for (const AdapterPart part :
       {sparse_indices, sparse_values, sparse_size, time_gamma, time_beta, lokr_t1, glora_bm})
    if (const CheckpointTensor* const tensor = binding.find(part)) {
      binding.add(FindingKind::refused_kind, tensor->name,
                  concat(adapter_part_name(part), " is not supported"));
      has_any = true;
    }
  return has_any;
}

/// Whether the slot takes all that the module is; a finding if not.
[[nodiscard]] inline bool is_accepted(const ModuleBinding& binding, AdapterKind kind) {
  std::string refused;
  const auto need = [&](AdapterKind wanted) {
    if (!slot_accepts(binding.target.kinds, wanted))
      refused += concat(refused.empty() ? "" : " and ", adapter_kind_name(wanted));
  };
  need(kind);
  if (binding.module.has(AdapterPart::magnitude)) need(AdapterKind::dora);
  if (binding.module.has_bias() && kind != AdapterKind::bias) need(AdapterKind::bias);
  if (refused.empty()) return true;
  binding.add(FindingKind::refused_kind, binding.module.key(),
              concat("it is ", refused, "; the slot accepts ", slot_kinds_text(binding.target.kinds)));
  return false;
}

/// GLoRA has two layouts, which no file mixes.
[[nodiscard]] inline bool is_peft_glora(const AdapterModule& module) noexcept {
  for (const AdapterModule::Part& own : module.parts)
    if (own.part >= AdapterPart::glora_a && own.part <= AdapterPart::glora_e) return true;
  return false;
}

/// Appends to the binding's data, or to its report's findings.
inline void bind_module(ModuleBinding binding) {
  if (has_unknown_parts(binding)) return;
  const std::optional<AdapterKind> kind = kind_of(binding.module);
  if (!kind)
    return binding.add(FindingKind::incomplete, binding.module.key(),
                       "it stands alone: the tensors that it belongs to are missing");
  if (!is_accepted(binding, *kind)) return;
  if (binding.name.share == NameShare::columns && *kind != AdapterKind::lora) {
    static_cast<void>(binding.is_whole(adapter_kind_name(*kind)));
    return;
  }
  switch (*kind) {
  case AdapterKind::lora:
  case AdapterKind::dora: // which kind_of calls what it decomposes
    return LoraBinding{binding}.bind();
  case AdapterKind::loha:
    return ProductBinding{binding}.bind_loha();
  case AdapterKind::lokr:
    return ProductBinding{binding}.bind_lokr();
  case AdapterKind::ia3:
    return Ia3Binding{binding}.bind();
  case AdapterKind::oft:
  case AdapterKind::boft:
    return RotationBinding{binding}.bind(*kind);
  case AdapterKind::glora:
    if (!is_peft_glora(binding.module)) return GloraBinding{binding}.bind();
    return PeftGloraBinding{binding}.bind();
  case AdapterKind::vera:
    return VeraBinding{binding}.bind();
  case AdapterKind::diff:
    return DiffBinding{binding}.bind();
  case AdapterKind::bias:
    if (binding.bind_bias_parts(1)) binding.matched("bias", 0, 1);
    return;
  }
}

} // namespace tenon
