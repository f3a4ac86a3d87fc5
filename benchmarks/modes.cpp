// SPDX-License-Identifier: Apache-2.0
// What the modes and options of a session cost, in a session over four matrices of 2048 x 2048, rank 16. Each row times
// its reference in turn with it.
//   BM_in_place/<dtype>/attach     vs_copy: merging in place / copying the weights; and the end of the guard:
//                                  release_vs_copy
//   BM_measure_loss/<dtype>        vs_plain: merged attach with measure_loss / without
//   BM_progress/<dtype>            vs_plain: merged attach with a callback / without
//   BM_threads/<what>/<dtype>/<n>  vs_1: time with n threads / with one; what: merge, or rows of a forward pass
#include "in_turn.hpp"
#include "nets.hpp"

#include <cstring>
#include <optional>

namespace {

using namespace tenon;
using bench::in_turn;
using bench::seconds;

using Net = bench::Four<2048>;
constexpr std::int64_t elements = 4 * 2048 * 2048;

struct Copy {
  explicit Copy(DType dtype)
      : from(static_cast<std::size_t>(elements * dtype_bytes(dtype)), std::byte{1}),
        to(from.size(), std::byte{2}) {}
  void operator()() { std::memcpy(to.data(), from.data(), from.size()); }
  std::vector<std::byte> from, to;
};

void merge_in_place(benchmark::State& state, DType dtype) {
  const bench::Files<Net> files(1, 16, dtype);
  const auto model = open<Net>(files.checkpoint(), {.own_weights = true});
  Session session(model);
  Copy copy(dtype);
  std::vector<double> releases;
  std::optional<Guard> guard;
  const AttachPlan plan = session.plan<in_place>(files.adapters[0]);
  std::vector<double> attaches, copies;
  for (auto round : state) {
    static_cast<void>(round);
    attaches.push_back(seconds([&] { guard.emplace(plan); }));
    releases.push_back(seconds([&] { guard.reset(); }));
    copies.push_back(seconds(copy));
    state.SetIterationTime(attaches.back());
  }
  state.counters["vs_copy"] = bench::median(attaches) / bench::median(copies);
  state.counters["release_vs_copy"] = bench::median(releases) / bench::median(copies);
}

/// A merged attach with one more argument, beside the same without it.
template <class Option>
void merged_with(benchmark::State& state, DType dtype, Option option) {
  const bench::Files<Net> files(1, 16, dtype);
  const auto model = open<Net>(files.checkpoint());
  Session session(model);
  session.keep_overlays(1 * GiB);
  const auto times = in_turn(
      state, [&] { const auto guard = session.template attach<merged>(files.adapters[0], option); },
      [&] { const auto guard = session.template attach<merged>(files.adapters[0]); });
  state.counters["vs_plain"] = times[0] / times[1];
}

void merge_with_threads(benchmark::State& state, DType dtype, int threads) {
  const bench::Files<Net> files(1, 16, dtype);
  const auto model = open<Net>(files.checkpoint());
  Session many(model);
  Session one(model);
  many.use_threads(threads);
  many.keep_overlays(1 * GiB);
  one.keep_overlays(1 * GiB);
  const auto times = in_turn(
      state, [&] { const auto guard = many.attach<merged>(files.adapters[0]); },
      [&] { const auto guard = one.attach<merged>(files.adapters[0]); });
  state.counters["vs_1"] = times[0] / times[1];
}

void forward_with_threads(benchmark::State& state, DType dtype, std::int64_t rows, int threads) {
  const bench::Files<Net> files(1, 16, dtype);
  const auto model = open<Net>(files.checkpoint());
  Session many(model, {.tokens = rows});
  Session one(model, {.tokens = rows});
  many.use_threads(threads);
  const auto guard = many.attach(files.adapters[0]);
  const auto same = one.attach(files.adapters[0]);
  const Tensor x({1, rows, 2048});
  const auto times = in_turn(state, [&] { many.run(x); }, [&] { one.run(x); });
  state.counters["vs_1"] = times[0] / times[1];
}

template <class... Arguments>
void add(const std::string& name, Arguments... arguments) {
  benchmark::RegisterBenchmark(name.c_str(), arguments...)->UseManualTime()->Unit(benchmark::kMillisecond);
}

void register_all() {
  const int threads = static_cast<int>(std::max(2u, std::thread::hardware_concurrency()));
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const std::string type = dtype == DType::f32 ? "f32" : "bf16";
    const std::string count = "/" + std::to_string(threads);
    add("BM_in_place/" + type + "/attach", merge_in_place, dtype);
    add("BM_measure_loss/" + type, merged_with<MeasureLoss>, dtype, measure_loss);
    const auto watch =
        on_progress([](const AttachProgress& now) { benchmark::DoNotOptimize(now.bytes_done); });
    add("BM_progress/" + type, merged_with<decltype(watch)>, dtype, watch);
    add("BM_threads/merge/" + type + count, merge_with_threads, dtype, threads);
    for (const std::int64_t rows : {1, 64, 512})
      add("BM_threads/" + std::to_string(rows) + "/" + type + count, forward_with_threads, dtype, rows,
          threads);
  }
}

} // namespace

int main(int argc, char** argv) {
  register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
