// SPDX-License-Identifier: Apache-2.0
// A whole program with an adapter: open the base, load the adapter, attach it, one forward pass, detach it. Prints each
// stage's time and the peak of resident memory up to its end; compare.py runs it beside theirs.py and takes the time and
// the peak of the whole process from the system.
//   bench_lifecycle wan|minilm side|merged FOLDER MODEL.safetensors OUTPUT THREADS
// `wan` is the Linear layers of two blocks of Wan 2.1 14B (image to video), joined by sums and its GELU: no attention.
#include <tenon/models/bert.hpp>
#include <tenon/tenon.hpp>

#include "../peers/line_protocol.hpp"

#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace tn = tenon;
using namespace tenon::peers;

// clang-format off: columns of name, op, wires
template <std::int64_t D, std::int64_t Inner>
using WanBlock = tn::Graph<tn::Inputs<"x">,
    tn::Let<"q",   tn::Linear<"attn1.to_q", D, D>,       "x">,
    tn::Let<"k",   tn::Linear<"attn1.to_k", D, D>,       "x">,
    tn::Let<"qk",  tn::Add,                              "q", "k">,
    tn::Let<"v",   tn::Linear<"attn1.to_v", D, D>,       "x">,
    tn::Let<"qkv", tn::Add,                              "qk", "v">,
    tn::Let<"o",   tn::Linear<"attn1.to_out.0", D, D>,   "qkv">,
    tn::Let<"y",   tn::Add,                              "o", "x">,
    tn::Let<"q2",  tn::Linear<"attn2.to_q", D, D>,       "y">,
    tn::Let<"k2",  tn::Linear<"attn2.to_k", D, D>,       "y">,
    tn::Let<"s2",  tn::Add,                              "q2", "k2">,
    tn::Let<"v2",  tn::Linear<"attn2.to_v", D, D>,       "y">,
    tn::Let<"t2",  tn::Add,                              "s2", "v2">,
    tn::Let<"ik",  tn::Linear<"attn2.add_k_proj", D, D>, "y">,
    tn::Let<"u2",  tn::Add,                              "t2", "ik">,
    tn::Let<"iv",  tn::Linear<"attn2.add_v_proj", D, D>, "y">,
    tn::Let<"w2",  tn::Add,                              "u2", "iv">,
    tn::Let<"o2",  tn::Linear<"attn2.to_out.0", D, D>,   "w2">,
    tn::Let<"z",   tn::Add,                              "o2", "y">,
    tn::Let<"fed", tn::Sequential<tn::Linear<"ffn.net.0.proj", D, Inner>, tn::GeluTanh,
                                  tn::Linear<"ffn.net.2", Inner, D>>, "z">,
    tn::Let<"out", tn::Add,                              "fed", "z">,
    tn::Outputs<"out">>;
// clang-format on
using Wan = tn::Repeat<"blocks", 2, WanBlock<5120, 13824>>;
using MiniLM = tn::models::MiniLM;
static_assert(tn::slot_count<Wan> == 24);

struct Request {
  bool merges;
  std::string folder, model, output;
  int threads;
};

template <class T>
std::vector<T> read_values(const std::string& path, std::size_t count) {
  std::vector<T> values(count);
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(T)));
  if (!file) throw std::runtime_error(path + ": too short");
  return values;
}

template <class F>
void stage(const char* name, F f) {
  const double taken = seconds(f);
  std::printf("%s %.6f %ld\n", name, taken, static_cast<long>(status_kilobytes("VmHWM")));
}

template <class Net, class... Inputs>
void live(const Request& asked, const tn::Dims& dims, const Inputs&... inputs) {
  std::optional<tn::Model<Net>> model;
  std::optional<tn::Session<Net>> session;
  std::optional<tn::Adapter<Net>> adapter;
  std::optional<tn::Guard> guard;
  tn::TensorView y;
  stage("open", [&] {
    model.emplace(tn::open<Net>(asked.model));
    session.emplace(*model, dims);
    if (!use_threads(*session, asked.threads)) throw std::runtime_error("so many threads are not to be had");
  });
  stage("load", [&] {
    adapter.emplace(tn::load_adapter<Net>(asked.folder + "/adapter_000", {.checks_values = false}));
  });
  stage("attach", [&] {
    if (asked.merges)
      guard.emplace(session->template plan<tn::merged>(*adapter));
    else
      guard.emplace(session->plan(*adapter));
  });
  stage("forward", [&] { y = session->run(inputs...); });
  std::ofstream(asked.output, std::ios::binary).write(reinterpret_cast<const char*>(y.data), y.bytes());
  stage("detach", [&] { guard.reset(); });
}

void run(const std::string& net, const Request& asked) {
  if (net == "wan") {
    constexpr std::int64_t rows = 32;
    const auto x = read_values<float>(asked.folder + "/input.f32", rows * 5120);
    live<Wan>(asked, {.tokens = rows}, tn::view(std::span<const float>(x), {1, rows, 5120}));
  } else {
    const auto ids = read_values<std::int32_t>(asked.folder + "/ids.i32", 8 * 64);
    const std::vector<float> mask(ids.size(), 1.0f);
    live<MiniLM>(asked, {.batch = 8, .tokens = 64}, tn::view_of<std::int32_t>(ids, tn::DType::i32, {8, 64}),
                 tn::view(std::span<const float>(mask), {8, 64}));
  }
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr, "usage: bench_lifecycle wan|minilm side|merged FOLDER MODEL OUTPUT THREADS\n");
    return 2;
  }
  try {
    run(argv[1], {std::strcmp(argv[2], "merged") == 0, argv[3], argv[4], argv[5], std::stoi(argv[6])});
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_lifecycle: %s\n", problem.what());
    return 1;
  }
}
