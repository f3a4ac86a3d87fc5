// SPDX-License-Identifier: Apache-2.0
// expect: error: .*(deleted function|deleted constructor|use of deleted|implicitly-deleted|implicitly deleted)
#include <tenon/tenon.hpp>

#include <utility>

using namespace tenon;

using Net = Linear<"fc", 8, 8>;
#ifdef TENON_POSITIVE_CONTROL
void use(const Model<Net>& model) { auto session = Session{model}; }
#else
void use(const Model<Net>& model) {
  auto session = Session{model};
  auto moved = std::move(session);
}
#endif
