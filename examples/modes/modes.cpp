// SPDX-License-Identifier: Apache-2.0
// The modes of an attach, and who chooses. A plan says what each would hold and cost before anything happens; with
// `automatic` the session chooses by the rows that are expected, and says why. A model that owns its weights can be
// merged in place, without weight memory. A long merge can be watched and cancelled. Threads change no bit of a result.
// The files are those of examples/digits.
//
// Expected output:
//   side path: holds 1.0 KiB, costs 0 operations now and 21664 a row
//   merged: holds 213.6 KiB, costs 0.9 million operations now and 0 a row
//   side path: 100 rows expected, and merging (merged) pays from 215 on
//   merged: 100000 rows expected, and merging pays from 215 on
//   merged: 53888 weights, 0 % of them unmoved, relative error of the delta below 1e-6: yes
//   in place: overlay 0 B, the weights as in an overlay: yes, restored: yes
//   attach: cancelled at stem, after 16.0 KiB of 210.5 KiB
//   with 2 threads the same bits: yes
#include "../digits/digits_net.hpp"

#include <cstdio>
#include <vector>

namespace {

using namespace digits;

std::vector<std::byte> weights(const tn::Session<Net>& session) {
  const tn::TensorView& view = session.slot_weight(0);
  return {view.data, view.data + view.bytes()};
}

int run() {
  const char* const file = "examples/digits/data/digits.safetensors";
  const auto model = tn::open<Net>(file);
  const auto rotated = tn::load_adapter<Net>("examples/digits/data/rotated");
  tn::Session session(model);
  const auto yes = [](bool is_true) { return is_true ? "yes" : "no"; };

  const tn::AttachPlan side = session.plan(rotated);
  std::printf("side path: holds %s, costs %lld operations now and %lld a row\n",
              tn::bytes_text(side.bytes.total()).c_str(), static_cast<long long>(side.cost.flops),
              static_cast<long long>(side.cost.flops_per_row));
  const tn::AttachPlan overlay = session.plan<tn::merged>(rotated);
  std::printf("merged: holds %s, costs %.1f million operations now and %lld a row\n",
              tn::bytes_text(overlay.bytes.total()).c_str(), static_cast<double>(overlay.cost.flops) * 1e-6,
              static_cast<long long>(overlay.cost.flops_per_row));
  for (const int rows : {100, 100'000}) {
    const auto guard = session.attach<tn::automatic>(rotated, tn::Expect{.rows = rows});
    std::printf("%s\n", guard.plan().reason.c_str());
  }

  const auto merged_weights = [&] {
    const auto guard = session.attach<tn::merged>(rotated, tn::measure_loss);
    const auto loss = guard.loss(); // into 16-bit weights a small delta may be swallowed; these are floats
    std::printf("merged: %lld weights, %.0f %% of them unmoved, relative error of the delta below 1e-6: %s\n",
                static_cast<long long>(loss.weights), 100 * loss.share_unmoved(),
                yes(loss.relative_error() < 1e-6));
    return weights(session);
  }();
  {
    const auto own_model = tn::open<Net>(file, {.own_weights = true});
    tn::Session own_session(own_model);
    const auto before = weights(own_session);
    auto guard = own_session.attach<tn::in_place>(rotated);
    std::printf("in place: overlay %s, the weights as in an overlay: %s",
                tn::bytes_text(own_session.ledger().current()[tn::Category::overlay]).c_str(),
                yes(weights(own_session) == merged_weights));
    guard.release();
    std::printf(", restored: %s\n", yes(weights(own_session) == before));
  }
  try {
    const auto guard = session.attach<tn::merged>(
        rotated, tn::on_progress([](const tn::AttachProgress& now) { return now.bytes_done < 1; }));
  } catch (const tn::error& cancelled) {
    std::printf("%s\n", cancelled.what());
  }
  session.use_threads(2);
  const auto guard = session.attach<tn::merged>(rotated);
  std::printf("with %d threads the same bits: %s\n", session.threads(),
              yes(weights(session) == merged_weights));
  return 0;
}

} // namespace

int main() {
  try {
    return run();
  } catch (const tn::error& problem) {
    std::fprintf(stderr, "modes: %s\n", problem.what());
    return 1;
  }
}
