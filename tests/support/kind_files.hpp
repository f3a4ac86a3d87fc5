// SPDX-License-Identifier: Apache-2.0
// PEFT folders of every kind with random values, for all slots of any net whose widths are even: what tests of
// behaviours that do not depend on a kind run over.
#pragma once

#include "support/file_bytes.hpp"
#include "support/files.hpp"

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace tenon::test {

inline constexpr std::array kind_names{
    std::string_view("LORA"), std::string_view("DORA"), std::string_view("LOHA"), std::string_view("LOKR"),
    std::string_view("IA3"),  std::string_view("OFT"),  std::string_view("GLORA")};

/// Others, which change no fewer slots: BOFT, ComfyUI's stored differences of weights and biases in 32 and in 8 bits, LoRA
/// in 8 bits.
inline constexpr std::array other_kind_names{std::string_view("BOFT"), std::string_view("DIFF"),
                                             std::string_view("DIFF8"), std::string_view("LORA8")};

/// The tensors of one module, whose weight is [out, in]. `has_bias`: kinds that change a bias (PEFT's GLoRA) do so.
inline void add_kind(RandomTensors& tensors, std::string_view kind, const std::string& module,
                     std::int64_t in, std::int64_t out, std::int64_t rank, bool has_bias = false) {
  if (kind == "LORA" || kind == "DORA" || kind == "LORA8") {
    tensors.add(module + ".lora_A.weight", {rank, in});
    tensors.add(module + ".lora_B.weight", {out, rank});
    if (kind == "DORA") tensors.add(module + ".lora_magnitude_vector", {out});
  } else if (kind == "LOHA") {
    for (const std::string arm : {"1", "2"}) {
      tensors.add(module + ".hada_w" + arm + "_a", {out, rank});
      tensors.add(module + ".hada_w" + arm + "_b", {rank, in});
    }
  } else if (kind == "LOKR") {
    tensors.add(module + ".lokr_w1", {2, 2});
    tensors.add(module + ".lokr_w2_a", {out / 2, rank});
    tensors.add(module + ".lokr_w2_b", {rank, in / 2});
  } else if (kind == "IA3") {
    tensors.add(module + ".ia3_l", {out, 1});
  } else if (kind == "BOFT") {
    tensors.add(module + ".boft_R", {1, in / 2, 2, 2});
    tensors.add(module + ".boft_s", {out, 1});
  } else if (kind.starts_with("DIFF")) {
    tensors.add(module + ".diff", {out, in});
    if (has_bias) tensors.add(module + ".diff_b", {out});
  } else if (kind == "GLORA") {
    for (const std::string path : {".glora_A", ".glora_B"}) {
      tensors.add(module + path + ".Xd", {out, rank});
      tensors.add(module + path + ".Xu", {rank, in});
    }
    if (!has_bias) return;
    tensors.add(module + ".glora_C.Xd", {in, rank});
    tensors.add(module + ".glora_C.Xu", {rank, 1});
    tensors.add(module + ".glora_D.X", {out});
    tensors.add(module + ".glora_E.X", {1});
  } else {
    tensors.add(module + ".oft_R.weight", {in / 2, 1}); // blocks of 2: one number each
  }
}

[[nodiscard]] inline std::string kind_config(std::string_view kind, std::int64_t rank, double alpha) {
  const std::string numbers =
      concat(R"("r": )", rank, R"(, ")", kind == "LOHA" || kind == "LOKR" ? "" : "lora_", R"(alpha": )",
             std::to_string(alpha));
  if (kind == "DORA") return concat(R"({"peft_type": "LORA", "use_dora": true, )", numbers, "}");
  if (kind == "LORA8") return kind_config("LORA", rank, alpha);
  if (kind == "BOFT")
    return R"({"peft_type": "BOFT", "boft_block_size": 2, "boft_block_num": 0, "boft_n_butterfly_factor": 1})";
  if (kind == "IA3") return R"({"peft_type": "IA3"})";
  if (kind == "OFT") return R"({"peft_type": "OFT", "r": 0, "oft_block_size": 2})";
  if (kind == "GLORA") return concat(R"({"peft_type": "GLORA", "r": )", rank, "}");
  return concat(R"({"peft_type": ")", kind, R"(", )", numbers, "}");
}

struct KindOptions {
  std::int64_t rank = 2;
  double alpha = 3;
  std::uint32_t seed = 7;
};

/// A folder with an adapter of `kind` for every slot of `Net`, or for its first `slots` alone. Returns what to load.
template <class Net>
std::string write_kind(const std::string& folder, std::string_view kind, const KindOptions& options = {},
                       std::int64_t slots = -1) {
  const Program& program = program_of<Net>();
  const bool is_comfy = kind.starts_with("DIFF");
  RandomTensors tensors(options.seed, kind.ends_with("8") ? DType::f8_e4m3 : DType::f32);
  for (std::int64_t i = 0; i < (slots < 0 ? program.slot_count : slots); ++i) {
    const SlotEntry* entry = nullptr;
    for (const SlotEntry& candidate : program.slots)
      if (i >= candidate.base && i < candidate.base + candidate.copies) entry = &candidate;
    add_kind(tensors, kind, (is_comfy ? "diffusion_model." : "base_model.model.") + slot_path(program, i),
             entry->in, entry->out, options.rank, entry->bias != no_index);
  }
  std::filesystem::create_directories(folder);
  tensors.write(folder + "/adapter_model.safetensors");
  if (is_comfy) return folder + "/adapter_model.safetensors";
  write_file(folder + "/adapter_config.json", kind_config(kind, options.rank, options.alpha));
  return folder;
}

} // namespace tenon::test
