// SPDX-License-Identifier: Apache-2.0
// The digits model as a type: 8x8 pixels in [0, 1] to ten logits, three residual blocks between. 55,050 parameters and
// 8 slots; `data/make_digits.py` trained it and its adapters in PyTorch under the same names.
#pragma once

#include <tenon/tenon.hpp>

namespace digits {

namespace tn = tenon;

// y = x + down(gelu(up(norm(x))))
using Block = tn::Graph<tn::Inputs<"x">,
                        tn::Let<"h",
                                tn::Sequential<tn::LayerNorm<"norm", 64>, tn::Linear<"up", 64, 128>, tn::Gelu,
                                               tn::Linear<"down", 128, 64>>,
                                "x">,
                        tn::Let<"y", tn::Add, "h", "x">, tn::Outputs<"y">>;

using Net = tn::Sequential<tn::Linear<"stem", 64, 64>, tn::Gelu, tn::Repeat<"blocks", 3, Block>,
                           tn::LayerNorm<"norm", 64>, tn::Linear<"head", 64, 10>>;

// What the type alone says, before any file is opened.
static_assert(tn::slot_count<Net> == 8);
static_assert(tn::parameter_count<Net> == 55'050);
static_assert(tn::activation_bytes<Net>({.tokens = 450}) <= 450 * 1536);

} // namespace digits
