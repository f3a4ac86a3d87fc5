// SPDX-License-Identifier: Apache-2.0
// expect: tenon: an input's dimension must be a number or a named axis as it is
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
using Net = Sequential<Takes<Shape::of({batch_dim, tokens_dim, fixed(4)})>, Linear<"fc", 4, 4>>;
#else
using Net = Sequential<Takes<Shape::of({batch_dim, tokens_dim / 2, fixed(4)})>, Linear<"fc", 4, 4>>;
#endif
const auto slots_of_net = slot_count<Net>;
