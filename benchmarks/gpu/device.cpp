// SPDX-License-Identifier: Apache-2.0
// bench_gpu: what a device does with adapters, each figure beside a reference of the same process and its goal.
//   bench_gpu [--json FILE] [--tiny] [ROWS ...]       ROWS: merges all side session cycles decode peft; all of them if none is named
// --tiny: small sizes and no verdicts, to try whether it all works, also where the processor stands in for a GPU.
// Times are of the wall clock, round work that is put on a lane and the wait for it, many calls in a row; medians of 21
// rounds, ours and the reference in turn. Memory of a GPU: 70 GB, or as many blocks as there is room for.
#include "../wan.hpp"
#include "as_peft.hpp"
#include "cycles.hpp"
#include "decode.hpp"
#include "merges.hpp"
#include "sessions.hpp"
#include "side_paths.hpp"

#include <support/temporary_folder.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace tenon;
using namespace tenon::bench;

constexpr std::int64_t rank = 32;

/// The same loop of blocks, small.
template <std::int64_t Blocks>
using TinyWan = Wan<Blocks, 128, 352>;

constexpr auto row_names =
    std::to_array<std::string_view>({"merges", "all", "side", "session", "cycles", "decode", "peft"});

struct Options {
  std::string json{};
  bool tiny = false;
  std::vector<std::string> rows{};

  [[nodiscard]] bool wants(std::string_view name) const {
    return rows.empty() || std::ranges::find(rows, name) != rows.end();
  }
};

[[nodiscard]] Options read_options(std::span<char* const> arguments) {
  Options options;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view word = arguments[i];
    if (word == "--json" && i + 1 < arguments.size())
      options.json = arguments[++i];
    else if (word == "--tiny")
      options.tiny = true;
    else if (std::ranges::find(row_names, word) != row_names.end())
      options.rows.emplace_back(word);
    else
      throw error(
          ErrorCode::bad_argument,
          concat(word, ": expected [--json FILE] [--tiny] [merges|all|side|session|cycles|decode|peft ...]"));
  }
  return options;
}

/// What the whole of Wan takes in a session: its weights, as many overlays, and an adapter.
[[nodiscard]] bool has_room_for_wan(Bench& bench) {
  return bench.gpu().free_bytes() > std::int64_t{70} * 1000 * 1000 * 1000;
}

/// Weights of 16 GB, what comes with a pass, and what the driver takes.
[[nodiscard]] bool has_room_for_llama(Bench& bench) {
  return bench.gpu().free_bytes() > std::int64_t{20} * 1000 * 1000 * 1000;
}

/// Runs the groups of rows that are wanted. Returns whether all could be measured: one that could not leaves the others
/// what they are.
[[nodiscard]] bool run(const Options& options) {
  Bench bench(options.tiny);
  const test::TemporaryFolder folder;
  const bool tiny = options.tiny;
  bool all_measured = true;
  const auto group = [&](std::string_view name, auto rows) {
    if (!options.wants(name)) return;
    try {
      rows();
    } catch (const std::exception& problem) {
      all_measured = false;
      std::fprintf(stderr, "bench_gpu: %s: %s\n", std::string(name).c_str(), problem.what());
    }
    if (!options.json.empty()) bench.table().write(options.json); // what there is, should the time end here
  };
  copy_row(bench);
  group("merges", [&] {
    merge_rows(bench, tiny ? 128 : wan_width, tiny ? 128 : wan_width);
    merge_rows(bench, tiny ? 352 : wan_inner, tiny ? 128 : wan_width);
  });
  group("all", [&] { merge_all_row(bench, tiny ? program_of<TinyWan<3>>() : program_of<Wan<40>>(), rank); });
  group("side", [&] { side_rows(bench, tiny ? 128 : wan_width); });
  group("session", [&] {
    if (tiny)
      session_rows<TinyWan<3>>(bench, folder.path(), 2, rank);
    else if (has_room_for_wan(bench))
      session_rows<Wan<40>>(bench, folder.path(), 2, rank);
    else
      session_rows<Wan<4>>(bench, folder.path(), 2, rank);
  });
  group("cycles", [&] { cycle_rows(bench, tiny ? 200 : 10'000); });
  group("decode", [&] {
    if (tiny) return decode_rows<tiny_llama>(bench, folder.path(), "tiny");
    decode_rows<models::qwen25_05b>(bench, folder.path(), "qwen25_05b");
    if (has_room_for_llama(bench)) decode_rows<models::llama31_8b>(bench, folder.path(), "llama31_8b");
  });
  group("peft", [&] {
    if (tiny)
      rows_as_peft<TinyWan<2>>(bench, folder.path(), rank);
    else
      rows_as_peft<Wan<2>>(bench, folder.path(), rank);
  });
  bench.table().print();
  return all_measured;
}

} // namespace

int main(int argc, char** argv) {
  try {
    return run(read_options({argv, static_cast<std::size_t>(argc)})) ? 0 : 1;
  } catch (const error& problem) {
    std::fprintf(stderr, "bench_gpu: %s\n", problem.what());
    return problem.code() == ErrorCode::device_failed ? 77 : 1; // 77: there is no device to measure
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_gpu: %s\n", problem.what());
    return 1;
  }
}
