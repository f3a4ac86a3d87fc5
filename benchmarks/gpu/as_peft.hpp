// SPDX-License-Identifier: Apache-2.0
// The operations that theirs.py times with PEFT, on the same shapes: the linears of some blocks of Wan in bf16 under
// adapters of one rank. Keys are those of theirs.py; compare.py puts the two side by side. PEFT merges into the base's own
// memory, so that ours is timed both ways: into overlays that are kept, and in place.
#pragma once

#include "sessions.hpp"

namespace tenon::bench {

/// Bytes at most above what is held on the device before, while `f` runs.
template <class F>
[[nodiscard]] double peak_bytes(Bench& bench, F f) {
  const PeakScope peak(bench.memory());
  f();
  return static_cast<double>(peak.peak_above_start());
}

template <class Net>
void rows_as_peft(Bench& bench, const std::string& folder, std::int64_t rank) {
  const Program& program = program_of<Net>();
  const std::int64_t blocks = program.slots[0].copies;
  write_base(program, folder + "/blocks.safetensors", blocks);
  const std::string path = write_adapter(program, folder + "/blocks-adapter", rank, blocks);
  const auto model = open<Net, on_gpu>(folder + "/blocks.safetensors", {.ledger = &bench.ledger()});
  Session session(model);
  const auto read = [&] {
    return load_adapter<Net>(path,
                             {.ledger = &bench.ledger(), .checks_values = false}); // as PEFT, which does not
  };
  std::vector<Adapter<Net>> adapters{read()};
  DeviceLane& lane = lane_of(session, adapters[0]);
  std::optional<Guard> guard;
  const auto add = [&](std::string key, std::string what, double value, const char* unit) {
    bench.table().add({.key = "peft." + key,
                       .what = concat(what, ", ", std::ssize(program.slots) * blocks, " linears, r = ", rank),
                       .value = value,
                       .unit = unit});
  };
  /// Median ms of `f`, then `undo`, which `undone` gets the ms of.
  const auto time = [&](auto f, auto undo, double* undone = nullptr) {
    std::vector<double> times;
    std::vector<double> back;
    for (int round = -1; round < Bench::rounds; ++round) {
      const double once = seconds([&] { f(), lane.wait(); });
      const double again = seconds([&] { undo(), lane.wait(); });
      if (round >= 0) times.push_back(once), back.push_back(again);
    }
    if (undone != nullptr) *undone = median(back) * 1e3;
    return median(times) * 1e3;
  };
  const auto release = [&] { guard.reset(); };

  for (const std::int64_t loaded : {1, 10, 100}) {
    while (std::ssize(adapters) < loaded) adapters.push_back(read());
    for (const Adapter<Net>& adapter : adapters) session.load(adapter);
    std::optional<Adapter<Net>> fresh;
    const auto load = [&] {
      fresh.emplace(read());
      session.load(*fresh);
    };
    const auto drop = [&] {
      session.evict(*fresh);
      fresh.reset();
    };
    if (loaded == 1) {
      add("peak_load", "device memory to load an adapter", peak_bytes(bench, load), "B");
      drop();
    }
    add(concat("load_", loaded), concat("load an adapter from its file, ", loaded, " loaded"),
        time(load, drop), "ms");
    std::size_t at = 0;
    guard.emplace(session.plan(adapters[0]));
    add(concat("switch_", loaded), concat("switch to the next, ", loaded, " loaded"),
        time([&] { guard.emplace(session.plan(adapters[++at % adapters.size()])); }, [] {}), "ms");
    release();
  }
  const auto merge = [&] { guard.emplace(session.template plan<merged>(adapters[0])); };
  add("peak_merge", "device memory to merge out of place", peak_bytes(bench, merge), "B");
  release();
  session.keep_overlays(session.template plan<merged>(adapters[0]).device_bytes[Category::overlay]);
  double undone = 0;
  add("merge", "merge out of place", time(merge, release, &undone), "ms");
  add("unmerge", "release that", undone, "ms");
  session.trim();
  const auto merge_in_place = [&] { guard.emplace(session.template plan<in_place>(adapters[0])); };
  add("peak_merge_in_place", "device memory to merge in place", peak_bytes(bench, merge_in_place), "B");
  release();
  add("merge_in_place", "merge in place", time(merge_in_place, release, &undone), "ms");
  add("unmerge_in_place", "restore the base from its file", undone, "ms");
}

} // namespace tenon::bench
