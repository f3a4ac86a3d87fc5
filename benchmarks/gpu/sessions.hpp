// SPDX-License-Identifier: Apache-2.0
// An adapter of Wan 2.1 14B and a model on a device: loading it against a copy of its bytes from pinned memory, merging
// and releasing it through a session, and whether the base's bytes are the same after everything. Only the first blocks
// of the base have values; the rest of the file is a hole, hence zeros.
#pragma once

#include "bench.hpp"

#include <cstring>
#include <optional>

namespace tenon::bench {

/// Of each tensor's bytes on the device, brought back by a lane.
[[nodiscard]] inline std::vector<std::uint64_t> hashes(Bench& bench, std::span<const TensorView> tensors) {
  Buffer room = bench.pinned(std::int64_t{32} << 20);
  std::vector<std::uint64_t> all;
  for (const TensorView& tensor : tensors) {
    std::array<std::uint64_t, 4> lanes{1, 2, 3,
                                       4}; // beside each other: a multiplication waits for the last one
    for (std::int64_t at = 0; at < tensor.bytes(); at += room.bytes()) {
      const std::int64_t size = std::min(room.bytes(), tensor.bytes() - at);
      std::memset(room.data() + size / 8 * 8, 0,
                  static_cast<std::size_t>(std::min<std::int64_t>(8, room.bytes() - size / 8 * 8)));
      bench.lane().download(room.data(), tensor.data + at, size);
      bench.lane().wait();
      for (std::int64_t word = 0; 8 * word < size; ++word) {
        std::uint64_t value = 0;
        std::memcpy(&value, room.data() + 8 * word, 8);
        std::uint64_t& lane = lanes[static_cast<std::size_t>(word % 4)];
        lane = (lane ^ value) * 0x9E3779B97F4A7C15u;
        lane ^= lane >> 32;
      }
    }
    all.push_back(lanes[0] ^ (lanes[1] << 1) ^ (lanes[2] << 2) ^ (lanes[3] << 3));
  }
  return all;
}

/// The lane that a session computes on.
template <class Net>
[[nodiscard]] DeviceLane& lane_of(Session<Net, on_gpu>& session, const Adapter<Net>& adapter) {
  return *session.plan(adapter).session->lane();
}

template <class Net>
void load_row(Bench& bench, Session<Net, on_gpu>& session, const Adapter<Net>& adapter) {
  const std::int64_t before = bench.memory().current()[Category::adapter];
  const std::int64_t sent_before = session.adapter_copies().upload_bytes;
  session.load(adapter); // its file's pages are there then, and the staging memory
  const std::int64_t bytes = bench.memory().current()[Category::adapter] - before;
  const std::int64_t sent = session.adapter_copies().upload_bytes - sent_before;
  session.evict(adapter);
  Buffer to = bench.bytes(bytes);
  Buffer from = bench.pinned(bytes);
  std::memset(from.data(), 1, static_cast<std::size_t>(bytes));
  std::vector<double> loads;
  std::vector<double> copies;
  for (int round = 0; round < Bench::rounds; ++round) {
    loads.push_back(seconds([&] { session.load(adapter); }));
    session.evict(adapter);
    copies.push_back(seconds([&] {
      bench.lane().copy(to.data(), from.data(), bytes);
      bench.lane().wait();
    }));
  }
  const auto gigabytes = static_cast<double>(bytes) * 1e-9;
  bench.table().add({.key = "load",
                     .what = concat("load an adapter of ", sent / 1000000, " MB: Session::load"),
                     .value = gigabytes / median(loads),
                     .unit = "GB/s",
                     .reference = gigabytes / median(copies),
                     .reference_is = "a copy of as many bytes from pinned memory",
                     .goal = ratio_at_least(0.90)});
  bench.table().add({.key = "load.bytes",
                     .what = "device memory that it takes",
                     .value = static_cast<double>(bytes),
                     .unit = "B",
                     .reference = static_cast<double>(sent),
                     .reference_is = "the adapter's own bytes",
                     .goal = ratio_at_most(1.01)});
}

template <class Net>
void attach_rows(Bench& bench, Session<Net, on_gpu>& session, const Adapter<Net>& adapter) {
  session.load(adapter);
  DeviceLane& lane = lane_of(session, adapter);
  const std::int64_t overlay_bytes = session.template plan<merged>(adapter).device_bytes[Category::overlay];
  session.keep_overlays(overlay_bytes);
  std::optional<Guard> guard;
  std::vector<double> attaches;
  std::vector<double> detaches;
  std::vector<double> sides;
  std::vector<double> side_ends;
  for (int round = -2; round < Bench::rounds; ++round) {
    const auto keep = [&](std::vector<double>& times, double time) {
      if (round >= 0) times.push_back(time);
    };
    keep(attaches, seconds([&] {
           guard.emplace(session.template plan<merged>(adapter));
           lane.wait();
         }));
    keep(detaches, seconds([&] { guard.reset(); }));
    keep(sides, seconds([&] {
           guard.emplace(session.plan(adapter));
           lane.wait();
         }));
    keep(side_ends, seconds([&] { guard.reset(); }));
  }
  const std::string slots = concat(slot_count<Net>, " slots");
  bench.table().add({.key = "attach.merged",
                     .what = concat("attach<merged>, ", slots, ", overlays kept"),
                     .value = median(attaches) * 1e3,
                     .unit = "ms",
                     .reference = 2e-9 * static_cast<double>(overlay_bytes) / bench.copy_rate * 1e3,
                     .reference_is = "copying as many bytes, by the first row's rate"});
  bench.table().add({.key = "detach.merged",
                     .what = concat("detach, ", slots, ", overlays kept"),
                     .value = median(detaches) * 1e6,
                     .unit = "us",
                     .reference = median(attaches) * 1e6,
                     .reference_is = "attach<merged>",
                     .goal = at_most(10)});
  bench.table().add({.key = "attach.side",
                     .what = concat("attach beside the weights, ", slots, ", adapter loaded"),
                     .value = median(sides) * 1e6,
                     .unit = "us",
                     .reference = median(attaches) * 1e6,
                     .reference_is = "attach<merged>"});
  bench.table().add({.key = "detach.side",
                     .what = concat("detach beside the weights, ", slots),
                     .value = median(side_ends) * 1e6,
                     .unit = "us",
                     .reference = median(sides) * 1e6,
                     .reference_is = "attaching it"});
  session.trim();
  session.keep_overlays(0);
  session.evict(adapter);
}

template <class Net>
void session_rows(Bench& bench, const std::string& folder, std::int64_t filled_blocks, std::int64_t rank) {
  const Program& program = program_of<Net>();
  write_base(program, folder + "/wan.safetensors", filled_blocks);
  write_adapter(program, folder + "/wan-adapter", rank, program.slots[0].copies);
  const auto model = open<Net, on_gpu>(folder + "/wan.safetensors", {.ledger = &bench.ledger()});
  const auto adapter = load_adapter<Net>(folder + "/wan-adapter", {.ledger = &bench.ledger()});
  Session session(model);
  const std::vector<std::uint64_t> before = hashes(bench, model.weights());
  load_row(bench, session, adapter);
  attach_rows(bench, session, adapter);
  const std::vector<std::uint64_t> after = hashes(bench, model.weights());
  std::int64_t differing = 0;
  for (std::size_t i = 0; i < before.size(); ++i) differing += before[i] != after[i] ? 1 : 0;
  bench.table().add({.key = "base.differing",
                     .what = concat("base tensors that differ after it all, of ", std::ssize(before)),
                     .value = static_cast<double>(differing),
                     .unit = "tensors",
                     .goal = at_most(0)});
}

} // namespace tenon::bench
