// SPDX-License-Identifier: Apache-2.0
// What attaching costs: the merge, the side path and the base products beside copying, reading and Eigen; releasing a
// guard; attaching with many adapters loaded; ten thousand cycles. Each row times its reference in turn with it.
//   BM_operations/<set>                         the inner loop on what the first-level cache holds: GFLOPs
//   BM_merge/<dtype>/<out>x<in>/r<rank>/<set>   vs_copy: time / time to copy W (out of place, buffers touched before)
//   BM_merge5/...                               five adapters in one pass: vs_one
//   BM_merge_loss/<dtype>/r<rank>               measuring what is lost as well: vs_plain: time / time without; unmoved
//   BM_side/<dtype>/<rows>/r<rank>              overhead: product with an adapter / product alone, less 1;
//                                               overhead5: with five; noise: with none; share: side path
//                                               alone / product alone
//   BM_base/<dtype>/<rows>/<set>                vs_read (one row): time / time to read W; vs_eigen: f32 of Eigen
//   BM_base_rounded/<rows>                      bf16, inputs rounded to it: vs_exact, time / that of the product of floats
//   BM_one_row/<dtype>/<out>x<in>/<threads>/<set>   as BM_base, for the shapes of Qwen 2.5 0.5B, 256 MiB of matrices in
//                                               turn, which no cache holds: vs_read, by as many threads
//   BM_detach/<mode>/<width>                    ns_per_slot, overlays being kept
//   BM_attach/merged/<width>/<fresh or kept>    attach and release, f32, rank 16: vs_copy, of the weights' bytes
//   BM_switch/<width>                           from one merged adapter to another: vs_copy, of the weights' bytes
//   BM_registered/<n>                           attach and release of one adapter with n loaded: vs_1
//   BM_cycles                                   last_vs_first: latency of the last 100 of 10,000; rss_growth
#include <tenon/kernels/linear.hpp>
#include <tenon/kernels/low_rank.hpp>
#include <tenon/kernels/merge.hpp>
#include <tenon/memory/process_memory.hpp>
#include <tenon/tenon.hpp>

#include "in_turn.hpp"
#include "nets.hpp"

#include <Eigen/Core>

#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace {

using namespace tenon;
using namespace tenon::kernels;
using bench::Files;
using bench::Four;
using bench::in_turn;
using bench::seconds;
using bench::thread_seconds;

constexpr std::int64_t n = 5120; // the width of Wan 2.1 14B

/// Normal values of a stored type, touched; the same block again and again, since only the first is drawn.
std::vector<std::byte> stored_values(DType type, std::int64_t count, float sigma) {
  constexpr std::int64_t block = 1 << 16;
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, sigma);
  std::vector<float> values(block);
  for (float& value : values) value = normal(random);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * dtype_bytes(type)));
  for (std::int64_t i = 0; i < count; i += block)
    encode(type, values.data(), std::min(block, count - i), bytes.data() + i * dtype_bytes(type));
  return bytes;
}

struct Weight {
  Weight(DType type, std::int64_t rows, std::int64_t cols, float sigma = 0.02f)
      : bytes(stored_values(type, rows * cols, sigma)), view{bytes.data(), type, rows, cols, cols} {}
  std::vector<std::byte> bytes;
  WeightMatrix view;
};

struct Term {
  Term(DType type, std::int64_t rank) : a(type, rank, n), b(type, n, rank), term{a.view, b.view, 0.5f} {}
  Weight a, b;
  LowRankTerm term;
};

/// What products and merges could reach at most.
void operations(benchmark::State& state, InstructionSet set) {
  const VectorKernels& kernels = vector_kernels(set);
  constexpr std::int64_t depth = 64;
  constexpr int repeats = 10'000;
  const std::vector<float> left(static_cast<std::size_t>(kernels.rows * depth), 0.5f);
  const std::vector<float> panel(static_cast<std::size_t>(depth * kernels.width), 0.5f);
  std::vector<float> out(static_cast<std::size_t>(kernels.rows * kernels.width));
  const auto times = in_turn(state, [&] {
    for (int i = 0; i < repeats; ++i)
      kernels.multiply_panel({left.data(), kernels.rows, depth, depth}, panel.data(), 1.0f,
                             {out.data(), kernels.rows, kernels.width, kernels.width});
  });
  const auto flops = static_cast<double>(2 * kernels.rows * kernels.width * depth * repeats);
  state.counters["GFLOPs"] = flops / times[0] * 1e-9;
}

void merge(benchmark::State& state, DType type, std::int64_t rank, InstructionSet set, int adapters) {
  const Weight base(type, n, n);
  const Term factors(DType::bf16, rank);
  const std::vector<LowRankTerm> terms(static_cast<std::size_t>(adapters), factors.term);
  Ledger ledger;
  Buffer out(ledger, Category::overlay, std::ssize(base.bytes), "a merge");
  Buffer copy(ledger, Category::overlay, std::ssize(base.bytes), "a merge");
  std::memset(out.data(), 1, base.bytes.size());
  std::memset(copy.data(), 1, base.bytes.size());
  std::vector<std::byte> scratch(static_cast<std::size_t>(merge_scratch_bytes + 64));
  const auto run = [&](std::span<const LowRankTerm> list) {
    merge_low_rank(base.view, list, out.data(), Scratch(scratch), vector_kernels(set));
  };
  const auto times = in_turn(
      state, [&] { run(terms); }, [&] { std::memcpy(copy.data(), base.bytes.data(), base.bytes.size()); },
      [&] { run(std::span(terms).first(1)); });
  const auto bytes = static_cast<double>(base.bytes.size());
  state.counters["vs_copy"] = times[0] / times[1];
  state.counters["vs_one"] = times[0] / times[2];
  state.counters["GBps"] = 2 * bytes / times[0] * 1e-9;
  state.counters["GFLOPs"] = 2.0 * n * n * static_cast<double>(rank * adapters) / times[0] * 1e-9;
  state.counters["scratch_bytes"] = static_cast<double>(merge_scratch_bytes);
}

void merge_loss(benchmark::State& state, DType type, std::int64_t rank) {
  const Weight base(type, n, n);
  const Term factors(DType::bf16, rank);
  Ledger ledger;
  Buffer out(ledger, Category::overlay, std::ssize(base.bytes), "a merge");
  std::memset(out.data(), 1, base.bytes.size());
  std::vector<std::byte> scratch(static_cast<std::size_t>(merge_scratch_bytes + 64));
  MergeLoss loss;
  const auto run = [&](MergeLoss* to) {
    merge_low_rank(base.view, {&factors.term, 1}, out.data(), Scratch(scratch), vector_kernels(),
                   {.loss = to});
  };
  const auto times = in_turn(state, [&] { run(&loss); }, [&] { run(nullptr); });
  state.counters["vs_plain"] = times[0] / times[1];
  state.counters["unmoved"] = loss.share_unmoved();
  state.counters["relative_error"] = loss.relative_error();
}

/// Sums 8-byte words, 128 bytes at a time: what reading costs at least.
#if defined(__x86_64__)
__attribute__((target("avx2")))
#endif
std::uint64_t
read_all(std::span<const std::byte> bytes) {
  using Words = std::uint64_t __attribute__((vector_size(32)));
  Words a{}, b{}, c{}, d{};
  const std::byte* at = bytes.data();
  for (std::size_t left = bytes.size() / 128; left > 0; --left, at += 128) {
    Words next;
    std::memcpy(&next, at, 32);
    a += next;
    std::memcpy(&next, at + 32, 32);
    b += next;
    std::memcpy(&next, at + 64, 32);
    c += next;
    std::memcpy(&next, at + 96, 32);
    d += next;
  }
  a += b + c + d;
  return a[0] + a[1] + a[2] + a[3];
}

struct Rows {
  explicit Rows(std::int64_t rows)
      : values(static_cast<std::size_t>(rows * n), 0.5f), view{values.data(), rows, n, n} {}
  std::vector<float> values;
  Matrix view;
};

void base(benchmark::State& state, DType type, std::int64_t rows, InstructionSet set) {
  const Weight w(type, n, n);
  const Weight w32(DType::f32, n, n);
  const Rows x(rows);
  Rows y(rows);
  Rows z(rows);
  std::vector<std::byte> scratch(static_cast<std::size_t>(linear_scratch_bytes(rows, n, n) + 64));
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const RowMajor> x_map(x.values.data(), rows, n);
  const Eigen::Map<const RowMajor> w_map(reinterpret_cast<const float*>(w32.bytes.data()), n, n);
  Eigen::Map<RowMajor> z_map(z.values.data(), rows, n);
  const auto times = in_turn(
      state,
      [&] {
        std::fill(y.values.begin(), y.values.end(), 0.0f);
        multiply_nt(x.view, w.view, 1.0f, y.view, Scratch(scratch), vector_kernels(set));
      },
      [&] { benchmark::DoNotOptimize(read_all(w.bytes)); },
      [&] { z_map.noalias() = x_map * w_map.transpose(); });
  if (rows == 1) state.counters["vs_read"] = times[0] / times[1];
  state.counters["vs_eigen_f32"] = times[0] / times[2];
  state.counters["GFLOPs"] = 2.0 * n * n * static_cast<double>(rows) / times[0] * 1e-9;
  state.counters["GBps"] = static_cast<double>(w.bytes.size()) / times[0] * 1e-9;
}

void base_rounded(benchmark::State& state, std::int64_t rows) {
  const Weight w(DType::bf16, n, n);
  const Rows x(rows);
  Rows y(rows);
  std::vector<std::byte> scratch(static_cast<std::size_t>(linear_scratch_bytes(rows, n, n) + 64));
  bool took = true;
  const auto times = in_turn(
      state,
      [&] {
        std::fill(y.values.begin(), y.values.end(), 0.0f);
        took = bf16_products.add_product(x.view, w.view, y.view, Scratch(scratch)) && took;
      },
      [&] {
        std::fill(y.values.begin(), y.values.end(), 0.0f);
        multiply_nt(x.view, w.view, 1.0f, y.view, Scratch(scratch));
      });
  if (!took) state.SkipWithError("the processor multiplies no pairs of bfloat16");
  state.counters["vs_exact"] = times[0] / times[1];
  state.counters["GFLOPs"] = 2.0 * n * n * static_cast<double>(rows) / times[0] * 1e-9;
}

void one_row(benchmark::State& state, DType type, std::int64_t rows, std::int64_t cols, int threads,
             InstructionSet set) {
  const std::int64_t bytes = rows * cols * dtype_bytes(type);
  const std::int64_t count = std::max<std::int64_t>(256 * MiB / bytes, 1);
  const Weight all(type, count * rows, cols);
  const std::vector<float> x(static_cast<std::size_t>(cols), 0.5f);
  std::vector<float> y(static_cast<std::size_t>(rows));
  ThreadTeam team(threads);
  const Workers workers({}, &team, {}, 0);
  const auto each = [&](auto f) {
    for (std::int64_t i = 0; i < count; ++i) f(all.view.block(i * rows, 0, rows, cols));
  };
  const auto product = [&](WeightMatrix w) {
    multiply_nt({x.data(), 1, cols, cols}, w, 1.0f, {y.data(), 1, rows, rows}, workers, vector_kernels(set));
  };
  const auto read = [&](WeightMatrix w) {
    workers.share(rows, 4, cols, [w](std::int64_t first, std::int64_t part, Scratch) {
      const WeightMatrix some = w.block(first, 0, part, w.cols);
      benchmark::DoNotOptimize(read_all({some.data, static_cast<std::size_t>(some.bytes())}));
    });
  };
  const auto times = in_turn(state, [&] { each(product); }, [&] { each(read); });
  state.counters["vs_read"] = times[0] / times[1];
  state.counters["GBps"] = static_cast<double>(count * bytes) / times[0] * 1e-9;
}

/// The product alone, twice, with one adapter beside it and with five: each round in another order, and each
/// compared with the product alone in its own round, since a shared machine slows down and recovers within
/// seconds.
void side(benchmark::State& state, DType type, std::int64_t rows, std::int64_t rank) {
  const Weight w(type, n, n);
  const Term factors(type, rank);
  const std::vector<LowRankTerm> terms(5, factors.term);
  const Rows x(rows);
  Rows y(rows);
  std::vector<std::byte> scratch(static_cast<std::size_t>(
      std::max(linear_scratch_bytes(rows, n, n), low_rank_scratch_bytes(rows, n, n)) + 64));
  const auto adapters = [&](std::size_t count) {
    low_rank_add(x.view, std::span(terms).first(count), y.view, Scratch(scratch));
  };
  const auto product = [&](std::size_t count) {
    linear(x.view, w.view, {}, y.view, Scratch(scratch));
    if (count > 0) adapters(count);
  };
  struct Run {
    std::size_t adapters;
    double time = 0;
  };
  std::array<Run, 4> runs{{{0}, {0}, {1}, {5}}};
  std::array<Run*, 4> order{&runs[0], &runs[1], &runs[2], &runs[3]};
  std::mt19937 random(1);
  std::vector<double> overhead, overhead5, noise, share;
  product(5);
  for (auto round : state) {
    static_cast<void>(round);
    std::shuffle(order.begin(), order.end(), random);
    for (Run* run : order) run->time = thread_seconds([&] { product(run->adapters); });
    const double alone = (runs[0].time + runs[1].time) / 2;
    noise.push_back(runs[1].time / runs[0].time - 1);
    overhead.push_back(runs[2].time / alone - 1);
    overhead5.push_back(runs[3].time / alone - 1);
    share.push_back(thread_seconds([&] { adapters(1); }) / alone);
    state.SetIterationTime(runs[2].time);
  }
  state.counters["overhead"] = bench::median(overhead);
  state.counters["overhead5"] = bench::median(overhead5);
  state.counters["noise"] = bench::median(noise); // what no overhead looks like
  state.counters["share"] = bench::median(share);
  state.counters["flop_share"] = 2.0 * static_cast<double>(rank) / n; // what one adapter adds, by count
}

template <class Mode, std::int64_t Width>
void release(benchmark::State& state) {
  using Net = Four<Width>;
  const Files<Net> files(1);
  const auto model = open<Net>(files.checkpoint());
  Session session(model);
  session.keep_overlays(64 * MiB);
  std::vector<double> times;
  for (auto round : state) {
    static_cast<void>(round);
    std::optional<Guard> guard;
    guard.emplace(session.template plan<Mode>(files.adapters[0]));
    times.push_back(seconds([&] { guard.reset(); }));
    state.SetIterationTime(times.back());
  }
  state.counters["ns_per_slot"] = bench::median(times) * 1e9 / 4;
}

template <std::int64_t Width>
void attach_merged(benchmark::State& state, bool keeps) {
  using Net = Four<Width>;
  const Files<Net> files(1);
  const auto model = open<Net>(files.checkpoint());
  Session session(model);
  if (keeps) session.keep_overlays(1 * GiB);
  std::vector<std::byte> from(static_cast<std::size_t>(4 * Width * Width * 4), std::byte{1});
  std::vector<std::byte> to(from.size(), std::byte{2});
  const auto times = in_turn(
      state, [&] { const auto guard = session.template attach<merged>(files.adapters[0]); },
      [&] { std::memcpy(to.data(), from.data(), from.size()); });
  state.counters["vs_copy"] = times[0] / times[1];
}

template <std::int64_t Width>
void switched(benchmark::State& state) {
  using Net = Four<Width>;
  const Files<Net> files(2);
  const auto model = open<Net>(files.checkpoint());
  Session session(model);
  Guard guard = session.template attach<merged>(files.adapters[0]);
  std::vector<std::byte> from(static_cast<std::size_t>(4 * Width * Width * 4), std::byte{1});
  std::vector<std::byte> to(from.size(), std::byte{2});
  std::size_t next = 1;
  const auto times = in_turn(
      state, [&] { guard.switch_to(session.template plan<merged>(files.adapters[next++ % 2])); },
      [&] { std::memcpy(to.data(), from.data(), from.size()); });
  state.counters["vs_copy"] = times[0] / times[1];
}

void registered(benchmark::State& state, int count) {
  using Net = Four<256>;
  const Files<Net> one(1);
  const Files<Net> many(count);
  const auto model = open<Net>(one.checkpoint());
  Session session(model);
  const auto cycle = [&](const Adapter<Net>& adapter) {
    for (int i = 0; i < 100; ++i) {
      const auto guard = session.attach(adapter);
      benchmark::DoNotOptimize(guard);
    }
  };
  const auto times = in_turn(state, [&] { cycle(many.adapters.back()); }, [&] { cycle(one.adapters[0]); });
  state.counters["vs_1"] = times[0] / times[1];
}

void cycles(benchmark::State& state) {
  using Net = Four<64>;
  const Files<Net> files(2, 8);
  const auto model = open<Net>(files.checkpoint());
  Session session(model, {.tokens = 8});
  Tensor x({1, 8, 64});
  constexpr std::size_t count = 10'000;
  for (auto round : state) {
    static_cast<void>(round);
    std::vector<double> times;
    times.reserve(count);
    const auto cycle = [&] {
      const auto side = session.attach(files.adapters[0], 0.5);
      const auto merged_too = session.attach<merged>(files.adapters[1], -1.0);
      benchmark::DoNotOptimize(session.run(x));
    };
    for (int i = 0; i < 200; ++i) cycle();
    const std::int64_t before = read_process_memory().value().anonymous;
    for (std::size_t i = 0; i < count; ++i) times.push_back(seconds(cycle));
    const auto part = [&](std::size_t first) {
      return bench::median({times.begin() + static_cast<std::ptrdiff_t>(first),
                            times.begin() + static_cast<std::ptrdiff_t>(first + 100)});
    };
    state.counters["last_vs_first"] = part(count - 100) / part(0);
    state.counters["rss_growth"] = static_cast<double>(read_process_memory().value().anonymous - before);
    double sum = 0;
    for (const double time : times) sum += time;
    state.SetIterationTime(sum);
  }
}

template <class... Arguments>
auto* add(const std::string& name, Arguments... arguments) {
  return benchmark::RegisterBenchmark(name.c_str(), arguments...)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void register_all() {
  const auto text = [](auto number) { return std::to_string(number); };
  const auto name_of = [](DType type) {
    return std::string(type == DType::f32 ? "f32" : type == DType::f16 ? "f16" : "bf16");
  };
  const auto best = static_cast<int>(best_instruction_set(cpu_features()));
  for (int i = best; i >= 0; --i) {
    const auto set = static_cast<InstructionSet>(i);
    const std::string path = "/" + std::string(instruction_set_name(set));
    add("BM_operations" + path, operations, set);
    for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
      for (const std::int64_t rank : {16, 32, 128})
        add("BM_merge/" + name_of(type) + "/5120x5120/r" + text(rank) + path, merge, type, rank, set, 1);
      add("BM_merge5/" + name_of(type) + "/5120x5120/r32" + path, merge, type, std::int64_t{32}, set, 5);
      for (const std::int64_t rows : {1, 64, 512})
        add("BM_base/" + name_of(type) + "/" + text(rows) + path, base, type, rows, set);
      for (const auto& [rows, cols] : {std::pair{896, 896}, {4864, 896}, {896, 4864}, {151936, 896}})
        for (const int threads : {1, 2})
          add("BM_one_row/" + name_of(type) + "/" + text(rows) + "x" + text(cols) + "/" + text(threads) +
                  path,
              one_row, type, std::int64_t{rows}, std::int64_t{cols}, threads, set);
    }
  }
  if (vector_kernels().multiply_pairs != nullptr)
    for (const std::int64_t rows : {16, 64, 512}) add("BM_base_rounded/" + text(rows), base_rounded, rows);
  for (const DType type : {DType::f32, DType::bf16, DType::f16})
    for (const std::int64_t rank : {16, 32})
      add("BM_merge_loss/" + name_of(type) + "/r" + text(rank), merge_loss, type, rank);
  const auto rounds = [](std::int64_t rows) { return rows == 1 ? 1001 : rows == 64 ? 201 : 41; };
  for (const DType type : {DType::f32, DType::bf16})
    for (const std::int64_t rows : {1, 64, 512}) // as many rounds as make the noise small beside 0.01
      add("BM_side/" + name_of(type) + "/" + text(rows) + "/r32", side, type, rows, std::int64_t{32})
          ->Iterations(rounds(rows));
  // a fixed count: what is timed is nothing beside the attach that must come before it
  add("BM_detach/side_path/64", release<side_path, 64>)->Iterations(2000);
  add("BM_detach/side_path/1024", release<side_path, 1024>)->Iterations(2000);
  add("BM_detach/merged/64", release<merged, 64>)->Iterations(200);
  add("BM_detach/merged/1024", release<merged, 1024>)->Iterations(200);
  add("BM_attach/merged/2048/fresh", attach_merged<2048>, false);
  add("BM_attach/merged/2048/kept", attach_merged<2048>, true);
  add("BM_switch/2048", switched<2048>);
  for (const int count : {1, 10, 100, 1000}) add("BM_registered/" + text(count), registered, count);
  benchmark::RegisterBenchmark("BM_cycles", cycles)
      ->UseManualTime()
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
}

} // namespace

int main(int argc, char** argv) {
  register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
