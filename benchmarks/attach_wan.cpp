// SPDX-License-Identifier: Apache-2.0
// Attaching an adapter of 359 MB to Wan 2.1 14B: rank 32, bf16, random values, a PEFT folder of 960 tensors
// for the 480 linears of 40 blocks. The base is a bf16 checkpoint of 32 GB, with all names and shapes in its
// header; its data is a hole of the file system but for the blocks that a row computes with, which hold
// random values. Files are in the page cache before anything is timed. Linux and glibc.
//   BM_attach_wan/side           ms: attach; ms_load: load_adapter; vs_read: (load + attach) / reading the
//                                adapter's file once; anon_bytes: the most that the process grew by in load
//                                and attach, from a trimmed heap; anon_attach: in attach alone; anon_held: in
//                                both, once the heap has given back what it has free; guard_bytes: in the
//                                ledger, beside the mapping; faults: page faults
//   BM_attach_wan/merged/fresh   the adapter's modules of TENON_WAN_BLOCKS blocks (1 to 12; 5 if not set: 4
//                                GB of base, as much of overlays; 9 are what 8 GB allow): vs_copy: attach /
//                                copying the same weights to touched pages; vs_fresh_copy: to fresh ones
//                                (all by the thread's own clock); GBps read and written; peak_over_plan: the
//                                ledger's peak in the attach less the plan's bytes; anon_over_plan: the
//                                process's growth less the plan's bytes; ms_cold: the first attach, not among
//                                those timed
//   BM_attach_wan/merged/kept    the same into overlays that an earlier guard left (keep_overlays)
//   BM_attach_wan/first_forward  4 blocks, 4 rows, side path. Time: load + attach + first pass; ms_second:
//                                the next pass; ms_base: a pass without an adapter
#include <tenon/memory/process_memory.hpp>
#include <tenon/tenon.hpp>

#include "in_turn.hpp"
#include "wan.hpp"
#include "wan_files.hpp"

#include <support/temporary_folder.hpp>

#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <string_view>

namespace {

using namespace tenon;
using bench::median;
using bench::seconds;
using bench::thread_seconds;
using bench::Wan;

constexpr std::int64_t rank = 32;
constexpr std::int64_t forward_blocks = 4;
constexpr std::int64_t forward_rows = 4;

/// What the rows read, written when the first of them asks.
class Files {
 public:
  const std::string& base(std::int64_t filled) {
    std::string& path = bases_[filled];
    if (path.empty()) {
      path = folder_.file(concat("base-", filled, ".safetensors"));
      bench::write_base(program_of<Wan<40>>(), path, filled);
    }
    return path;
  }
  const std::string& adapter(std::int64_t blocks) {
    std::string& path = adapters_[blocks];
    if (path.empty())
      path =
          bench::write_adapter(program_of<Wan<40>>(), folder_.file(concat("adapter-", blocks)), rank, blocks);
    return path;
  }

 private:
  test::TemporaryFolder folder_;
  std::map<std::int64_t, std::string> bases_;
  std::map<std::int64_t, std::string> adapters_;
};

/// Reads a file from its first byte to its last.
void read_file(const std::string& path) {
  static std::vector<char> room(1 << 20);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  while (::read(file, room.data(), room.size()) > 0) benchmark::DoNotOptimize(room.data());
  ::close(file);
}

std::int64_t anonymous() { return read_process_memory().value().anonymous; }
std::int64_t page_faults() {
  struct rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt + usage.ru_majflt;
}

void side(benchmark::State& state, Files* files) {
  const auto model = open<Wan<40>>(files->base(0));
  const std::string folder = files->adapter(40);
  const std::string file = folder + "/adapter_model.safetensors";
  Session session(model);
  read_file(file);
  std::vector<double> load, attach, release, read;
  std::int64_t grown = 0;
  std::int64_t grown_by_attach = 0;
  std::int64_t held = 0;
  std::int64_t faults = 0;
  for (auto round : state) {
    static_cast<void>(round);
    std::optional<Adapter<Wan<40>>> adapter;
    std::optional<Guard> guard;
    ::malloc_trim(0); // what the heap has free would hide what is taken from it
    const std::int64_t bytes_before = anonymous();
    const std::int64_t faults_before = page_faults();
    load.push_back(
        seconds([&] { adapter.emplace(load_adapter<Wan<40>>(folder, {.checks_values = false})); }));
    grown = std::max(grown, anonymous() - bytes_before);
    ::malloc_trim(0);
    const std::int64_t bytes_loaded = anonymous();
    attach.push_back(seconds([&] { guard.emplace(session.plan(*adapter)); }));
    faults = std::max(faults, page_faults() - faults_before);
    grown = std::max(grown, anonymous() - bytes_before);
    grown_by_attach = std::max(grown_by_attach, anonymous() - bytes_loaded);
    ::malloc_trim(0);
    held = std::max(held, anonymous() - bytes_before);
    state.SetIterationTime(attach.back());
    if (guard->slot_count() != 480) return state.SkipWithError("expected 480 slots");
    state.counters["guard_bytes"] = static_cast<double>(guard->bytes().total());
    state.counters["adapter_MB"] = static_cast<double>(adapter->bytes()) * 1e-6;
    release.push_back(seconds([&] { guard.reset(); }));
    adapter.reset();
    read.push_back(seconds([&] { read_file(file); }));
  }
  state.counters["ms_load"] = median(load) * 1e3;
  state.counters["ms"] = median(attach) * 1e3;
  state.counters["ms_worst"] = *std::max_element(attach.begin(), attach.end()) * 1e3;
  state.counters["ms_release"] = median(release) * 1e3;
  state.counters["vs_read"] = (median(load) + median(attach)) / median(read);
  state.counters["anon_bytes"] = static_cast<double>(grown);
  state.counters["anon_attach"] = static_cast<double>(grown_by_attach);
  state.counters["anon_held"] = static_cast<double>(held);
  state.counters["faults"] = static_cast<double>(faults);
}

/// Copies the base weights of an adapter's slots to `to`, from its beginning again where it ends.
void copy_weights(const Session<Wan<40>>& session, const Adapter<Wan<40>>& adapter, Buffer& to) {
  std::int64_t at = 0;
  for (const SlotFactors& factors : adapter.data()->factors) {
    const TensorView& base = session.slot_weight(factors.slot);
    if (at + base.bytes() > to.bytes()) at = 0;
    std::memcpy(to.data() + at, base.data, static_cast<std::size_t>(base.bytes()));
    at += base.bytes();
  }
}

void merged_attach(benchmark::State& state, Files* files, std::int64_t filled, std::int64_t blocks,
                   bool keeps) {
  const auto model = open<Wan<40>>(files->base(filled));
  const auto adapter = load_adapter<Wan<40>>(files->adapter(blocks));
  Session session(model);
  const BytesByCategory plan = session.plan<merged>(adapter).bytes;
  const std::int64_t overlay_bytes = plan[Category::overlay];
  Ledger other; // the references' bytes are not the session's
  // a block's worth of pages such as overlays have: larger than any cache, and touched by the first copy
  Buffer touched(other, Category::overlay, overlay_bytes / blocks, "copy");
  copy_weights(session, adapter, touched); // now the mapping's pages are there as well

  std::optional<Guard> guard;
  const auto attach = [&] { guard.emplace(session.plan<merged>(adapter)); };
  if (keeps) session.keep_overlays(overlay_bytes);
  const double cold = seconds(attach); // the machine may have to find the memory first, as a virtual one does
  guard.reset();
  std::vector<double> times, release, copy, copy_fresh;
  std::vector<std::int64_t> peak_over_plan, anon_over_plan;
  for (auto round : state) {
    static_cast<void>(round);
    const std::int64_t kept = session.kept_overlay_bytes();
    const std::int64_t bytes_before = anonymous() - kept;
    {
      const PeakScope peak(session.ledger());
      const double wall = seconds([&] { times.push_back(thread_seconds(attach)); });
      state.SetIterationTime(wall);
      peak_over_plan.push_back(kept + peak.peak_above_start() - plan.total());
    }
    anon_over_plan.push_back(anonymous() - bytes_before - plan.total());
    if (guard->slot_count() != 12 * blocks) return state.SkipWithError("expected 12 slots a block");
    release.push_back(seconds([&] { guard.reset(); }));
    copy.push_back(thread_seconds([&] { copy_weights(session, adapter, touched); }));
    if (!keeps)
      copy_fresh.push_back(thread_seconds([&] {
        Buffer fresh(other, Category::overlay, overlay_bytes, "copy");
        copy_weights(session, adapter, fresh);
      }));
  }
  const auto bytes = static_cast<double>(overlay_bytes);
  state.counters["blocks"] = static_cast<double>(blocks);
  state.counters["overlay_GB"] = bytes * 1e-9;
  state.counters["vs_copy"] = median(times) / median(copy);
  if (!keeps) state.counters["vs_fresh_copy"] = median(times) / median(copy_fresh);
  state.counters["GBps"] = 2 * bytes / median(times) * 1e-9;
  state.counters["copy_GBps"] = 2 * bytes / median(copy) * 1e-9;
  state.counters["peak_over_plan"] = static_cast<double>(std::ranges::max(peak_over_plan));
  state.counters["anon_over_plan"] = static_cast<double>(std::ranges::max(anon_over_plan));
  state.counters["ms_cold"] = cold * 1e3;
  state.counters["ms_release"] = median(release) * 1e3;
}

void first_forward(benchmark::State& state, Files* files, std::int64_t filled) {
  using Net = Wan<forward_blocks>;
  const auto model = open<Net>(files->base(filled)); // the other blocks' tensors are left alone
  const std::string folder = files->adapter(forward_blocks);
  Session session(model, {.tokens = forward_rows});
  Tensor x({1, forward_rows, bench::wan_width});
  std::mt19937 random(3);
  for (float& value : x.values()) value = std::normal_distribution<float>()(random);
  const auto pass = [&] { benchmark::DoNotOptimize(session.run(x, x, x)); };
  pass(); // the base's pages are there
  std::vector<double> base, load, attach, first, second;
  for (auto round : state) {
    static_cast<void>(round);
    std::optional<Adapter<Net>> adapter;
    std::optional<Guard> guard;
    base.push_back(seconds(pass));
    load.push_back(seconds([&] { adapter.emplace(load_adapter<Net>(folder, {.checks_values = false})); }));
    attach.push_back(seconds([&] { guard.emplace(session.plan(*adapter)); }));
    first.push_back(seconds(pass));
    second.push_back(seconds(pass));
    state.SetIterationTime(load.back() + attach.back() + first.back());
  }
  state.counters["ms_base"] = median(base) * 1e3;
  state.counters["ms_load"] = median(load) * 1e3;
  state.counters["ms_attach"] = median(attach) * 1e3;
  state.counters["ms_first"] = median(first) * 1e3;
  state.counters["ms_second"] = median(second) * 1e3;
}

/// TENON_WAN_BLOCKS, or 5.
std::int64_t merged_blocks() {
  const char* const text = std::getenv("TENON_WAN_BLOCKS");
  const std::string_view wanted = text == nullptr ? "5" : text;
  std::int64_t blocks = 0;
  std::from_chars(wanted.data(), wanted.data() + wanted.size(), blocks);
  if (blocks >= 1 && blocks <= 12) return blocks;
  throw error(ErrorCode::bad_argument,
              concat("TENON_WAN_BLOCKS=", wanted, ": expected a number from 1 to 12, or no such variable"));
}

template <class... Arguments>
void add(const char* name, int rounds, Arguments... arguments) {
  benchmark::RegisterBenchmark(name, arguments...)
      ->UseManualTime()
      ->Iterations(rounds)
      ->Unit(benchmark::kMillisecond);
}

} // namespace

int main(int argc, char** argv) {
  Files files;
  const std::int64_t blocks = merged_blocks();
  const std::int64_t filled = std::max(blocks, forward_blocks);
  add("BM_attach_wan/side", 9, side, &files);
  add("BM_attach_wan/merged/fresh", 3, merged_attach, &files, filled, blocks, false);
  add("BM_attach_wan/merged/kept", 3, merged_attach, &files, filled, blocks, true);
  add("BM_attach_wan/first_forward", 5, first_forward, &files, filled);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
