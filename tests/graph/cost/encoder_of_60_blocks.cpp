// SPDX-License-Identifier: Apache-2.0
// An encoder of 60 blocks; a Repeat instantiates its block once, so this must cost what 6 blocks do.
#include <tenon/models/bert.hpp>
#include <tenon/tenon.hpp>

using namespace tenon;
constexpr models::BertSize deep{30522, 512, 384, 60, 12, 1536};

static_assert(slot_count<models::BertEncoder<deep>> == 360);
static_assert(activation_bytes<models::BertEncoder<deep>>({.tokens = 256}) ==
              activation_bytes<models::BertEncoder<models::minilm_l6>>({.tokens = 256}));
