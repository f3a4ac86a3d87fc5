// SPDX-License-Identifier: Apache-2.0
// A decoder as a type: greedy generation with a cache of keys and values, without and with an adapter. A cache filled
// under one set of adapters is refused under another. The model is the tests' small random Llama; a released one
// differs in its numbers only: tn::models::LlamaNext<tn::models::llama3_8b>.
//
// Expected output:
//   the model alone: 62 70 45 52 62 71 73 61 71 80 55 44
//   the cache holds 16 tokens in 12288 bytes
//   KvCache: its 16 tokens were computed before an adapter was attached or released; clear it, or compute them again
//   with PEFT's adapter on 21 slots: 2 80 2 58 16 2 76 95 12 17 88 70
//   and alone again the same: yes
#include <tenon/models/llama.hpp>
#include <tenon/tenon.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

namespace tn = tenon;

namespace {

constexpr tn::models::LlamaSize small{
    .vocabulary = 100, .width = 32, .layers = 3, .inner = 72, .heads = {.count = 4, .width = 8, .shared = 2}};
using Net = tn::models::LlamaNext<small>;

static_assert(tn::slot_count<Net> == 21);
static_assert(tn::slot_count<tn::models::LlamaNext<tn::models::llama3_8b>> == 224);

/// The likeliest next token, as the input of the next call.
struct NextToken {
  std::int32_t id = 0;

  explicit NextToken(const tn::TensorView& logits) {
    const auto* const values = reinterpret_cast<const float*>(logits.data);
    id = static_cast<std::int32_t>(std::max_element(values, values + logits.size()) - values);
  }
  [[nodiscard]] tn::TensorView view() const {
    constexpr std::array<std::int64_t, 2> one_token{1, 1};
    return {&id, tn::DType::i32, one_token};
  }
};

std::string generate(tn::Session<Net>& session, tn::KvCache<Net>& cache, const tn::TensorView& prompt,
                     int count) {
  std::string text;
  NextToken next(session.run(cache, prompt));
  for (int i = 0; i < count; ++i) {
    text += ' ' + std::to_string(next.id);
    if (i + 1 < count)
      next = NextToken(session.run(cache, next.view())); // computes one token, reads the others
  }
  return text;
}

int run(const std::string& folder) {
  auto model = tn::open<Net>(folder + "/model.safetensors");
  auto adapter = tn::load_adapter<Net>(folder + "/adapter");
  tn::Session session{model};
  tn::KvCache cache{session, 32};

  const std::array<std::int32_t, 5> ids{11, 42, 7, 93, 5};
  const std::array<std::int64_t, 2> shape{1, 5};
  const tn::TensorView prompt(ids.data(), tn::DType::i32, shape);

  const std::string plain = generate(session, cache, prompt, 12);
  std::printf("the model alone:%s\n", plain.c_str());
  std::printf("the cache holds %d tokens in %d bytes\n", static_cast<int>(cache.tokens()),
              static_cast<int>(cache.bytes()));
  {
    const auto guard = session.attach(adapter);
    try {
      (void)session.run(cache, prompt);
    } catch (const tn::error& refusal) {
      std::printf("%s\n", refusal.what());
    }
    cache.clear();
    std::printf("with PEFT's adapter on %d slots:%s\n", static_cast<int>(adapter.report().matched.size()),
                generate(session, cache, prompt, 12).c_str());
  }
  cache.clear();
  std::printf("and alone again the same: %s\n", generate(session, cache, prompt, 12) == plain ? "yes" : "no");
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : "tests/goldens/models/llama");
  } catch (const tn::error& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}
