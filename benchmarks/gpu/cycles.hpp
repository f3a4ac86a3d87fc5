// SPDX-License-Identifier: Apache-2.0
// Requests one after the other, each with an adapter of its own: its file is mapped, loaded, attached, used for a pass
// and evicted. Neither memory nor time may grow. The net is small, so that what is counted is the cycle and not the pass.
#pragma once

#include "../nets.hpp"
#include "sessions.hpp"

namespace tenon::bench {

inline void cycle_rows(Bench& bench, int cycles) {
  using Net = Four<256>;
  Files<Net> files(0, 16, bf16);
  const auto model = open<Net, on_gpu>(files.checkpoint(), {.ledger = &bench.ledger()});
  Session session(model, {.tokens = 16});
  Tensor x({16, 256});
  for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] = static_cast<float>(i * 29 % 41) / 41.0f;
  const std::string path = files.folder.file("adapter");
  const auto cycle = [&] {
    const auto adapter = load_adapter<Net>(path, {.ledger = &bench.ledger()});
    session.load(adapter);
    {
      const Guard guard = session.attach(adapter);
      static_cast<void>(session.run(x));
    }
    session.evict(adapter);
  };
  constexpr int counted = 100;
  for (int i = 0; i < counted; ++i) cycle(); // code is loaded, kernels are chosen
  const Tensor output_before = session(x);
  const std::vector<std::uint64_t> hashes_before = hashes(bench, model.weights());
  const std::int64_t ledger_before = bench.memory().current().total();
  const std::int64_t free_before = bench.gpu().free_bytes();
  std::vector<double> times;
  for (int i = 0; i < cycles; ++i) times.push_back(seconds(cycle));
  const std::int64_t free_after = bench.gpu().free_bytes();
  const std::string words = concat(cycles, " cycles of load, attach, pass, evict");
  bench.table().add({.key = "cycles.ledger",
                     .what = concat(words, ": ledger grew by"),
                     .value = static_cast<double>(bench.memory().current().total() - ledger_before),
                     .unit = "B",
                     .goal = at_most(0)});
  if (free_before > 0)
    bench.table().add({.key = "cycles.free",
                       .what = "... the device's free memory shrank by",
                       .value = static_cast<double>(free_before - free_after),
                       .unit = "B",
                       .goal = at_most(0)});
  bench.table().add({.key = "cycles.latency",
                     .what = concat("... a cycle of the last ", counted),
                     .value = median({times.end() - counted, times.end()}) * 1e6,
                     .unit = "us",
                     .reference = median({times.begin(), times.begin() + counted}) * 1e6,
                     .reference_is = concat("one of the first ", counted),
                     .goal = ratio_at_most(1.1)});
  const bool same = session(x) == output_before && hashes(bench, model.weights()) == hashes_before;
  bench.table().add({.key = "cycles.differing",
                     .what = "... base weights or outputs that differ",
                     .value = same ? 0.0 : 1.0,
                     .goal = at_most(0)});
}

} // namespace tenon::bench
