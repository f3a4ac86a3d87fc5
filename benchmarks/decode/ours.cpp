// SPDX-License-Identifier: Apache-2.0
// Tenon's half of the decode speed beside torch's (theirs.py): a warm process that answers questions on stdin, each with a
// line "<question> <answer> <resident KiB>". compare.py asks both sides in turn.   bench_decode NET FOLDER
//   threads N          yes: for what follows
//   decode N ID...     reads the prompt ID..., then decodes N tokens greedily, one at a time: seconds of these, and the ids of
//                      the token after the prompt and of the N
//   read               seconds in which the weights that a token reads can be read at all, and how many bytes they are
#include <tenon/core/thread_team.hpp>
#include <tenon/models/llama.hpp>
#include <tenon/tenon.hpp>

#include "../peers/limits.hpp"
#include "../peers/line_protocol.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace tn = tenon;
using namespace tenon::peers;

constexpr tn::models::LlamaSize tiny{100, 32, 3, 72, {4, 8, 2}};

/// Reads weights with as many threads as a session has, and does nothing else.
class Reader {
 public:
  /// `skipped` is not among the weights that are read.
  Reader(const tn::Checkpoint& checkpoint, std::string_view skipped) {
    constexpr std::size_t part_bytes = std::size_t{1} << 20; // small enough for threads to end together
    for (const tn::CheckpointTensor& tensor : checkpoint.tensors()) {
      if (tensor.name == skipped) continue;
      std::span<const std::byte> left(tensor.view.data, static_cast<std::size_t>(tensor.view.bytes()));
      bytes_ += tensor.view.bytes();
      for (; left.size() > part_bytes; left = left.subspan(part_bytes))
        parts_.push_back(left.first(part_bytes));
      parts_.push_back(left);
    }
  }

  void use_threads(int threads) { team_ = std::make_unique<tn::ThreadTeam>(threads); }
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] double seconds_to_read() {
    return mean_seconds([&] {
      team_->run(
          std::ssize(parts_),
          [](void* self, std::int64_t part, int) noexcept {
            const Reader& reader = *static_cast<const Reader*>(self);
            sink = static_cast<float>(sum_words(reader.parts_[static_cast<std::size_t>(part)]));
          },
          this);
    });
  }

 private:
  std::vector<std::span<const std::byte>> parts_{};
  std::int64_t bytes_ = 0;
  std::unique_ptr<tn::ThreadTeam> team_ = std::make_unique<tn::ThreadTeam>(1);
};

template <tn::models::LlamaSize S>
class Ours {
 public:
  using Net = tn::models::LlamaNext<S>;

  explicit Ours(const std::string& folder)
      : model_(tn::open<Net>(folder + "/model.safetensors")), session_(model_, {.tokens = 8}),
        cache_(session_, 128),
        // of a table that is no head, a token reads one row
        reader_(model_.checkpoint(), S.has_tied_head ? "" : "model.embed_tokens.weight") {}

  std::string answer(const std::string& question, std::istringstream& arguments) {
    std::ostringstream text;
    text.precision(9);
    if (question == "threads") {
      int threads = 0;
      arguments >> threads;
      session_.use_threads(threads);
      reader_.use_threads(threads);
      text << "yes";
    } else if (question == "decode") {
      std::size_t count = 0;
      arguments >> count;
      decode(count, arguments, text);
    } else if (question == "read") {
      const double taken = reader_.seconds_to_read();
      text << taken << ' ' << reader_.bytes();
    } else {
      throw std::runtime_error("no such question: " + question);
    }
    return text.str();
  }

 private:
  /// The likeliest token after `ids`, which go into the cache.
  std::int32_t next(std::span<const std::int32_t> ids) {
    const std::array<std::int64_t, 2> shape{1, std::ssize(ids)};
    const tn::TensorView logits = session_.run(cache_, tn::TensorView(ids.data(), tn::DType::i32, shape));
    const auto* const values = reinterpret_cast<const float*>(logits.data);
    return static_cast<std::int32_t>(std::max_element(values, values + logits.size()) - values);
  }

  void decode(std::size_t count, std::istringstream& prompt, std::ostringstream& text) {
    std::vector<std::int32_t> ids;
    for (std::int32_t id = 0; prompt >> id;) ids.push_back(id);
    cache_.clear();
    std::vector<std::int32_t> tokens{next(ids)};
    tokens.reserve(count + 1);
    text << seconds([&] {
      while (tokens.size() <= count) tokens.push_back(next(std::span(tokens).last(1)));
    });
    for (const std::int32_t token : tokens) text << ' ' << token;
  }

  tn::Model<Net> model_;
  tn::Session<Net> session_;
  tn::KvCache<Net> cache_;
  Reader reader_;
};

template <tn::models::LlamaSize S>
void serve_decoding(const std::string& folder) {
  Ours<S> ours(folder);
  serve(ours);
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: bench_decode tiny|qwen25_05b FOLDER\n");
    return 2;
  }
  try {
    if (std::string(argv[1]) == "tiny")
      serve_decoding<tiny>(argv[2]);
    else
      serve_decoding<tn::models::qwen25_05b>(argv[2]);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_decode: %s\n", problem.what());
    return 1;
  }
}
