// SPDX-License-Identifier: Apache-2.0
// One merged adapter after another: a guard that switches takes no new memory and starts from the pristine base each
// time; a session that keeps overlays gives the pages of an ended guard to the next one, until it is told to trim. The
// files are those of examples/digits.
//
// Expected output:
//   rotated: overlay 210.5 KiB
//   inverted: overlay 210.5 KiB, as a fresh attach: yes
//   rotated at half scale: overlay 210.5 KiB, as a fresh attach: yes
//   after the guard: overlay 210.5 KiB, of it kept 210.5 KiB
//   attached again: overlay 210.5 KiB, of it kept 0 B
//   trimmed: overlay 0 B; the base as at the start: yes
#include "../digits/digits_net.hpp"

#include <cstdio>
#include <vector>

namespace {

using namespace digits;

int run() {
  const auto model = tn::open<Net>("examples/digits/data/digits.safetensors");
  const auto rotated = tn::load_adapter<Net>("examples/digits/data/rotated");
  const auto inverted = tn::load_adapter<Net>("examples/digits/data/inverted");
  tn::Session session(model);
  const auto overlay = [&] { return tn::bytes_text(session.ledger().current()[tn::Category::overlay]); };
  // A slot's bytes now: the base's or an overlay's.
  const auto weights = [&] {
    const tn::TensorView& view = session.slot_weight(0);
    return std::vector<std::byte>(view.data, view.data + view.bytes());
  };
  const auto fresh = [&](const auto& adapter, double scale) {
    const auto guard = session.attach<tn::merged>(adapter, scale);
    return weights();
  };
  const auto yes = [](bool is_true) { return is_true ? "yes" : "no"; };

  const auto base = weights();
  const auto inverted_fresh = fresh(inverted, 1);
  const auto half_fresh = fresh(rotated, 0.5);

  session.keep_overlays(1 * tn::MiB);
  {
    auto guard = session.attach<tn::merged>(rotated);
    std::printf("rotated: overlay %s\n", overlay().c_str());
    guard.switch_to(session.plan<tn::merged>(inverted));
    std::printf("inverted: overlay %s, as a fresh attach: %s\n", overlay().c_str(),
                yes(weights() == inverted_fresh));
    guard.switch_to(session.plan<tn::merged>(rotated, 0.5));
    std::printf("rotated at half scale: overlay %s, as a fresh attach: %s\n", overlay().c_str(),
                yes(weights() == half_fresh));
  }
  std::printf("after the guard: overlay %s, of it kept %s\n", overlay().c_str(),
              tn::bytes_text(session.kept_overlay_bytes()).c_str());
  {
    const auto guard = session.attach<tn::merged>(inverted);
    std::printf("attached again: overlay %s, of it kept %s\n", overlay().c_str(),
                tn::bytes_text(session.kept_overlay_bytes()).c_str());
  }
  session.trim();
  std::printf("trimmed: overlay %s; the base as at the start: %s\n", overlay().c_str(),
              yes(weights() == base));
  return 0;
}

} // namespace

int main() {
  try {
    return run();
  } catch (const tn::error& problem) {
    std::fprintf(stderr, "switching: %s\n", problem.what());
    return 1;
  }
}
