// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Attention: the shared heads of keys and values must divide the heads of queries
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr std::int64_t shared = 2;
#else
constexpr std::int64_t shared = 3;
#endif
using Net =
    Graph<Inputs<"q", "k", "v">,
          Let<"y", Attention<Heads{.count = 4, .width = 8, .shared = shared}>, "q", "k", "v">, Outputs<"y">>;
const auto slots_of_net = slot_count<Net>;
