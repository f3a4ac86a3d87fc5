// SPDX-License-Identifier: Apache-2.0
// The picture of the guard: a model as a type, an adapter for as long as a scope. It writes a two-layer checkpoint and a
// PEFT adapter to a temporary folder first (see make_files.hpp), so that it runs anywhere.
//
// Expected output:
//   base     ...
//   adapted  ...
//   restored: the same bits
#include "make_files.hpp"

#include <tenon/tenon.hpp>

#include <cstdio>

namespace tn = tenon;

using Net = tn::Sequential<tn::Linear<"up", 4, 8>, tn::Gelu, tn::Linear<"down", 8, 4>>;
// tn::Sequential<tn::Linear<"up", 4, 8>, tn::Linear<"down", 9, 4>> does not compile:
//   the width of a wire must equal the width that its reader takes ... the comparison reduces to (8 == 9)

int main() {
  const first::Files files;
  auto model = tn::open<Net>(files.model());          // maps the file; checks every name, shape and dtype
  auto tone = tn::load_adapter<Net>(files.adapter()); // a PEFT folder, checked against Net's slots
  auto session = tn::Session{model};

  const tn::Tensor x({1, 4}, {1.0f, -0.5f, 0.25f, 2.0f});
  const tn::Tensor base = session(x);
  {
    auto guard = session.attach(tone, 0.8f); // side path: exact, costs no weight memory
    const tn::Tensor adapted = session(x);
    std::printf("base     %g\nadapted  %g\n", static_cast<double>(base.row(0)[0]),
                static_cast<double>(adapted.row(0)[0]));
  } // the base again, bit for bit
  std::printf("restored: %s\n", session(x) == base ? "the same bits" : "OTHER BITS");
}
