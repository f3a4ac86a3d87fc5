// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Repeat: a repeated block must give the width that it takes
// expect: 16.*==.*6
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr std::int64_t wide = 6;
#else
constexpr std::int64_t wide = 16;
#endif
using Block = Graph<Inputs<"a", "b">, Let<"c", Linear<"one", 8, 8>, "a">,
                    Let<"d", Linear<"two", 6, wide>, "b">, Outputs<"c", "d">>;
using Net = Repeat<"layer", 3, Block>;
const auto slots_of_net = slot_count<Net>;
