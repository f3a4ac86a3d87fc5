// SPDX-License-Identifier: Apache-2.0
// Decoding a token at a time with a cache on a device, at the beginning of a text and behind a prompt. The weights that a
// token reads must all be read, which takes no less than by the first row's rate. The file is a hole, so all are zeros:
// they take as long to read.
#pragma once

#include "bench.hpp"

#include <tenon/models/llama.hpp>

#include <array>
#include <filesystem>

namespace tenon::bench {

inline constexpr models::LlamaSize tiny_llama{100, 32, 3, 72, {4, 8, 2}};

/// Bytes of the weights that a token reads: of a table that is no head a row, hence nothing.
template <models::LlamaSize S>
[[nodiscard]] std::int64_t bytes_of_token(std::span<const TensorView> weights) {
  std::int64_t bytes = S.has_tied_head ? 0 : -S.vocabulary * S.width * dtype_bytes(bf16);
  for (const TensorView& weight : weights) bytes += weight.bytes();
  return bytes;
}

/// `name`: of the model's shape.
template <models::LlamaSize S>
void decode_rows(Bench& bench, const std::string& folder, const std::string& name) {
  using Net = models::LlamaNext<S>;
  const std::string path = concat(folder, "/", name, ".safetensors");
  write_base(program_of<Net>(), path, 0);
  const auto model = open<Net, on_gpu>(path, {.ledger = &bench.ledger()});
  Session session(model);
  constexpr std::int64_t tokens = 32;
  const std::int64_t prompt = bench.tiny() ? 8 : 1024;
  KvCache cache(session, prompt + tokens);
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(prompt), 7);
  const auto read = [&](std::int64_t count) {
    const std::array<std::int64_t, 2> shape{1, count};
    static_cast<void>(session.run(cache, TensorView(ids.data(), DType::i32, shape)));
  };
  const std::int64_t bytes = bytes_of_token<S>(model.weights());
  for (const std::int64_t behind : {std::int64_t{0}, prompt}) {
    cache.clear();
    if (behind > 0) read(behind);
    std::vector<double> times;
    for (int round = -1; round < Bench::rounds; ++round) {
      cache.keep(behind);
      const double time = seconds([&] {
        for (std::int64_t i = 0; i < tokens; ++i) read(1);
      });
      if (round >= 0) times.push_back(time / static_cast<double>(tokens));
    }
    bench.table().add({.key = concat("decode.", name, ".", behind),
                       .what = concat("decode a token at a time, ", name, " in bf16, behind ", behind),
                       .value = 1 / median(times),
                       .unit = "tokens/s",
                       .reference = 1e9 * bench.copy_rate / static_cast<double>(bytes),
                       .reference_is = concat("reading ", bytes / 1000000, " MB by the first row's rate")});
  }
  std::filesystem::remove(path);
}

} // namespace tenon::bench
