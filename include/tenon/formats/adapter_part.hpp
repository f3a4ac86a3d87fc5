// SPDX-License-Identifier: Apache-2.0
// What one tensor of an adapter file is to its module, whatever the tool that wrote it calls it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tenon {

enum class AdapterPart : std::uint8_t {
  // LoRA: delta = scale * B A, for a convolution with a Tucker core between them
  lora_a,
  lora_b,
  lora_mid,
  lora_bias, ///< a bias on B, added to the module's
  embedding_a,
  embedding_b,
  magnitude, ///< the vector m of DoRA
  // numbers
  alpha,
  scale,  ///< takes the place of alpha / rank
  scalar, ///< a learned factor of the whole delta
  // LoHa
  hada_w1_a,
  hada_w1_b,
  hada_w2_a,
  hada_w2_b,
  hada_t1,
  hada_t2,
  // LoKr
  lokr_w1,
  lokr_w1_a,
  lokr_w1_b,
  lokr_w2,
  lokr_w2_a,
  lokr_w2_b,
  lokr_t1,
  lokr_t2,
  // IA3
  ia3_factor,   ///< PEFT's: the weight is multiplied by it
  ia3_on_input, ///< LyCORIS's: which axis; its vector is the whole tensor `weight`, a change
  // OFT, BOFT
  oft_blocks,
  oft_diag,
  oft_r,
  oft_embedding_r, ///< its blocks turn an embedding's rows the other way
  rescale,
  boft_r,
  boft_s,
  // GLoRA, LyCORIS's
  glora_a1,
  glora_a2,
  glora_b1,
  glora_b2,
  glora_bm,
  // GLoRA, PEFT's: W + W (*) A + B, b + b (*) D + E + W C; each whole (a vector, a number, zeros), or Xd Xu
  glora_a,
  glora_a_d,
  glora_a_u,
  glora_b,
  glora_b_d,
  glora_b_u,
  glora_c,
  glora_c_d,
  glora_c_u,
  glora_d,
  glora_e,
  // VeRA
  vera_lambda_b,
  vera_lambda_d,
  vera_a,
  vera_b,
  // differences and whole tensors
  diff,
  diff_bias,
  norm_weight, ///< a difference, as `diff`
  norm_bias,
  whole_weight, ///< takes the place of the module's weight
  whole_bias,
  // known and refused
  sparse_indices,
  sparse_values,
  sparse_size,
  time_gamma,
  time_beta,
};

[[nodiscard]] constexpr std::string_view adapter_part_name(AdapterPart part) noexcept {
  constexpr std::string_view names[] = {
      "LoRA A",           "LoRA B",         "LoRA core",      "LoRA bias",    "embedding A",
      "embedding B",      "DoRA magnitude", "alpha",          "scale",        "scalar",
      "LoHa w1_a",        "LoHa w1_b",      "LoHa w2_a",      "LoHa w2_b",    "LoHa t1",
      "LoHa t2",          "LoKr w1",        "LoKr w1_a",      "LoKr w1_b",    "LoKr w2",
      "LoKr w2_a",        "LoKr w2_b",      "LoKr t1",        "LoKr t2",      "IA3 factor",
      "IA3 on_input",     "OFT blocks",     "OFT diag",       "OFT R",        "OFT embedding R",
      "rescale",          "BOFT R",         "BOFT s",         "GLoRA a1",     "GLoRA a2",
      "GLoRA b1",         "GLoRA b2",       "GLoRA bm",       "GLoRA A",      "GLoRA A Xd",
      "GLoRA A Xu",       "GLoRA B",        "GLoRA B Xd",     "GLoRA B Xu",   "GLoRA C",
      "GLoRA C Xd",       "GLoRA C Xu",     "GLoRA D",        "GLoRA E",      "VeRA lambda_b",
      "VeRA lambda_d",    "VeRA A",         "VeRA B",         "weight diff",  "bias diff",
      "norm weight diff", "norm bias diff", "a whole weight", "a whole bias", "sparse indices",
      "sparse values",    "sparse size",    "timestep gamma", "timestep beta"};
  static_assert(sizeof(names) / sizeof(names[0]) == static_cast<std::size_t>(AdapterPart::time_beta) + 1);
  return names[static_cast<std::size_t>(part)];
}

} // namespace tenon
