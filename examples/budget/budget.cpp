// SPDX-License-Identifier: Apache-2.0
// Memory as a contract: a configuration with a budget, an attach that states its bytes before it begins, one that is
// refused, the mode that fits instead, and the ledger's table. The files are those of examples/digits.
//
// Expected output:
//   merged would hold 0 B of base, 210.5 KiB of overlay, 3.1 KiB beside it
//   attach (merged): asked for 213.6 KiB (218752 B), but the budget of 850.0 KiB holds ...; at most ... would fit
//   side path instead: 1.0 KiB
//   held now, beside the mapped base: ...
#include "../digits/digits_net.hpp"

#include <cstdio>

namespace {

using namespace digits;

// The weights must be F32; beside the mapped base, no more than 850 KiB may be held.
constexpr tn::Config tight{.weights = tn::f32, .budget = 850 * tn::KiB};

int run() {
  const auto model = tn::open<Net, tight>("examples/digits/data/digits.safetensors");
  const auto rotated = tn::load_adapter<Net>("examples/digits/data/rotated");
  tn::Session session(model, {.tokens = 10});

  const tn::BytesByCategory wanted = session.plan<tn::merged>(rotated).bytes;
  std::printf("merged would hold %s of base, %s of overlay, %s beside it\n",
              tn::bytes_text(wanted[tn::Category::base_owned]).c_str(),
              tn::bytes_text(wanted[tn::Category::overlay]).c_str(),
              tn::bytes_text(wanted[tn::Category::adapter]).c_str());
  try {
    const auto guard = session.attach<tn::merged>(rotated);
  } catch (const tn::budget_error& refused) { // nothing was taken, nothing has changed
    std::printf("%s\n", refused.what());
  }
  const auto guard = session.attach(rotated);
  std::printf("side path instead: %s\n", tn::bytes_text(guard.bytes().total()).c_str());
  std::printf("held now, beside the mapped base: %s\n",
              tn::bytes_text(session.ledger().current().budgeted()).c_str());
  return 0;
}

} // namespace

int main() {
  try {
    return run();
  } catch (const tn::error& problem) {
    std::fprintf(stderr, "budget: %s\n", problem.what());
    return 1;
  }
}
