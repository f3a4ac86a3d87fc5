// SPDX-License-Identifier: Apache-2.0
// Llama and Qwen2 against transformers' classes: names and shapes at released size; values, tokens and adapters at a
// small one (tests/goldens/README.md).
#include "support/allocation_probe.hpp"
#include "support/bf16_models.hpp"
#include "support/model_goldens.hpp"
#include "support/plan_check.hpp"

#include <doctest/doctest.h>

#include <tenon/models/llama.hpp>

using namespace tenon;
using namespace tenon::models;
using namespace tenon::test;

namespace {

constexpr LlamaSize small_llama{100, 32, 3, 72, {4, 8, 2}};
constexpr LlamaSize small_qwen{100, 48, 2, 64, {4, 12, 2}, {1000000}, {1e-6f}, true, true};

static_assert(runs_on_device<Llama<qwen25_05b>>);
static_assert(slot_count<Llama<llama3_8b>> == 224 && slot_count<Llama<llama2_7b>> == 224);
static_assert(slot_count<Llama<qwen25_7b>> == 196 && slot_count<Llama<qwen25_05b>> == 168);
static_assert(parameter_count<Llama<llama3_8b>> == 8'030'261'248);
static_assert(parameter_count<Llama<llama2_7b>> == 6'738'415'616);
static_assert(parameter_count<Llama<qwen25_7b>> == 7'615'616'512);
static_assert(parameter_count<Llama<qwen25_05b>> == 494'032'768);
static_assert(adapter_bytes<Llama<llama3_8b>, LoraOfRank<16>>(DType::bf16) ==
              83'886'080); // architectures' table: 84 MB

/// The hidden states before each layer: those of a net with fewer.
template <LlamaSize S>
void check_hidden(const ModelGoldens& goldens) {
  const auto model = open<LlamaBody<S>>(goldens.model(), {});
  Session session(model);
  CHECK(difference(session.run(goldens.at("ids")), goldens.at("last_hidden_state")) < model_tolerance);
}

template <LlamaSize S, std::int64_t Layers>
using Layers_ = Scope<"model", Sequential<Embedding<"embed_tokens", S.vocabulary, S.width>,
                                          Repeat<"layers", Layers, LlamaLayer<S>>>>;

std::vector<std::int32_t> ids_of(const TensorView& view) {
  const auto* first = reinterpret_cast<const std::int32_t*>(view.data);
  return {first, first + view.size()};
}

std::int32_t likeliest(const TensorView& logits) {
  const std::span<const float> values = floats_of(logits);
  return static_cast<std::int32_t>(std::ranges::max_element(values) - values.begin());
}

TensorView ids_view(std::span<const std::int32_t> ids) {
  const std::array<std::int64_t, 2> shape{1, std::ssize(ids)};
  return {ids.data(), DType::i32, shape};
}

template <class Net>
std::vector<std::int32_t> decode_greedily(Session<Net>& session, KvCache<Net>& cache,
                                          const TensorView& prompt, std::size_t count) {
  std::vector<std::int32_t> tokens{likeliest(session.run(cache, prompt))};
  while (tokens.size() < count)
    tokens.push_back(likeliest(session.run(cache, ids_view(std::span(tokens).last(1)))));
  return tokens;
}

} // namespace

TEST_CASE("Llama and Qwen2 ask for the tensors of the released checkpoints") {
  CHECK(names_of_net<Llama<llama3_8b>>() == names_of_release("llama3_8b"));
  CHECK(names_of_net<Llama<llama2_7b>>() == names_of_release("llama2_7b"));
  CHECK(names_of_net<Llama<qwen25_7b>>() == names_of_release("qwen25_7b"));
  CHECK(names_of_net<Llama<qwen25_05b>>() == names_of_release("qwen25_05b"));
}

TEST_CASE("Llama computes what transformers does, layer by layer") {
  const ModelGoldens goldens("llama");
  const auto one = open<Layers_<small_llama, 1>>(goldens.model());
  const auto two = open<Layers_<small_llama, 2>>(goldens.model());
  const auto model = open<Llama<small_llama>>(goldens.model());
  CHECK(difference(Session(one).run(goldens.at("ids")), goldens.at("hidden.1")) < model_tolerance);
  CHECK(difference(Session(two).run(goldens.at("ids")), goldens.at("hidden.2")) < model_tolerance);
  check_hidden<small_llama>(goldens);
  Session session(model);
  CHECK(difference(session.run(goldens.at("ids")), goldens.at("logits")) < model_tolerance);
}

TEST_CASE("Qwen2 has biases and a head tied to its embedding") {
  const ModelGoldens goldens("qwen2");
  const auto one = open<Layers_<small_qwen, 1>>(goldens.model());
  const auto model = open<Llama<small_qwen>>(goldens.model());
  CHECK(difference(Session(one).run(goldens.at("ids")), goldens.at("hidden.1")) < model_tolerance);
  check_hidden<small_qwen>(goldens);
  Session session(model);
  CHECK(difference(session.run(goldens.at("ids")), goldens.at("logits")) < model_tolerance);
  CHECK(model.unused_names().empty());
}

template <class Net>
void check_greedy() {
  const ModelGoldens goldens(std::is_same_v<Net, LlamaNext<small_llama>> ? "llama" : "qwen2");
  Ledger ledger;
  const auto model = open<Net>(goldens.model(), {.ledger = &ledger});
  Session session(model, {.tokens = 5});
  KvCache cache(session, 69);
  CHECK(decode_greedily(session, cache, goldens.at("prompt"), 64) == ids_of(goldens.at("greedy")));
  CHECK(cache.tokens() == 68); // the last token was not read
  cache.clear();
  CHECK(decode_greedily(session, cache, goldens.at("prompt"), 64) == ids_of(goldens.at("greedy")));
}
TEST_CASE("Greedy decoding with a cache finds the reference's 64 tokens") {
  check_greedy<LlamaNext<small_llama>>();
  check_greedy<LlamaNext<small_qwen>>();
}

TEST_CASE("PEFT's adapter of a Llama: beside the weights, merged, and while it decodes") {
  const ModelGoldens goldens("llama");
  using Net = Llama<small_llama>;
  const auto model = open<Net>(goldens.model());
  const auto adapter = load_adapter<Net>(goldens.adapter());
  CHECK(adapter.report().matched.size() == 21);
  Session session(model);
  {
    const auto guard = session.attach(adapter);
    CHECK(difference(session.run(goldens.at("ids")), goldens.at("adapted.logits")) < model_tolerance);
  }
  {
    const auto guard = session.attach<merged>(adapter);
    CHECK(difference(session.run(goldens.at("ids")), goldens.at("merged.logits")) < model_tolerance);
  }
  CHECK(difference(session.run(goldens.at("ids")), goldens.at("logits")) < model_tolerance);

  using Next = LlamaNext<small_llama>;
  const auto next = open<Next>(goldens.model());
  const auto beside = load_adapter<Next>(goldens.adapter());
  Session decoder(next);
  KvCache cache(decoder, 69);
  const auto guard = decoder.attach(beside);
  CHECK(decode_greedily(decoder, cache, goldens.at("prompt"), 64) == ids_of(goldens.at("adapted.greedy")));
}

TEST_CASE("A token at a time or all at once: the same hidden states") {
  const ModelGoldens goldens("llama");
  using Net = LlamaBody<small_llama>;
  const auto model = open<Net>(goldens.model());
  Session session(model);
  KvCache cache(session, 7, 2);
  const std::vector<std::int32_t> ids = ids_of(goldens.at("ids"));
  const std::span<const float> expected = floats_of(goldens.at("last_hidden_state"));
  for (std::size_t t = 0; t < 7; ++t) {
    const std::array<std::int32_t, 2> column{ids[t], ids[7 + t]};
    const std::array<std::int64_t, 2> shape{2, 1};
    const std::span<const float> hidden =
        floats_of(session.run(cache, TensorView(column.data(), DType::i32, shape)));
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t i = 0; i < 32; ++i)
        CHECK(hidden[b * 32 + i] == doctest::Approx(expected[(b * 7 + t) * 32 + i]).epsilon(1e-4));
  }
}

TEST_CASE("A token at a time with BF16 weights: the logits of all at once") {
  const Bf16Goldens goldens("llama");
  const auto model = open<LlamaNext<small_llama>>(goldens.model());
  Session session(model);
  KvCache cache(session, 7);
  const std::vector<std::int32_t> ids = ids_of(goldens.at("ids"));
  const std::span<const float> expected = floats_of(goldens.exact.at("logits"));
  for (std::size_t t = 0; t < 7; ++t) {
    const TensorView logits = session.run(cache, ids_view(std::span(ids).subspan(t, 1)));
    const std::array<std::int64_t, 2> shape{1, 100};
    const TensorView row(expected.subspan(t * 100, 100).data(), DType::f32, shape);
    CHECK(difference(logits, row) < model_tolerance);
  }
}

TEST_CASE("A cache that was filled under other adapters is an error and not a wrong answer") {
  const ModelGoldens goldens("llama");
  using Net = LlamaNext<small_llama>;
  const auto model = open<Net>(goldens.model());
  const auto adapter = load_adapter<Net>(goldens.adapter());
  Session session(model);
  KvCache cache(session, 16);
  const TensorView prompt = goldens.at("prompt");
  (void)session.run(cache, prompt);
  {
    const auto guard = session.attach(adapter);
    CHECK_THROWS_WITH_AS(
        (void)session.run(cache, prompt),
        "KvCache: its 5 tokens were computed before an adapter was attached or released; clear it, or "
        "compute them again",
        error);
    CHECK(cache.tokens() == 5);
    cache.clear();
    (void)session.run(cache, prompt);
  }
  CHECK_THROWS_AS((void)session.run(cache, prompt), error);
  cache.clear();
  (void)session.run(cache, prompt);
  (void)session.run(cache, prompt);
  CHECK(cache.tokens() == 10);
  (void)session.run(cache, prompt);
  CHECK_THROWS_WITH_AS(
      (void)session.run(cache, prompt),
      "KvCache: room for 16 tokens, of which 15 are taken; this call has 5; make a larger cache, or keep "
      "fewer",
      shape_error);
  cache.keep(11);
  (void)session.run(cache, prompt);
  CHECK(cache.tokens() == 16);

  Session other(model);
  CHECK_THROWS_AS((void)other.run(cache, prompt), error);
  CHECK_THROWS_AS(KvCache(other, 0), error);
}

TEST_CASE("Decoding allocates nothing, and a cache is in the ledger") {
  const ModelGoldens goldens("llama");
  using Net = LlamaNext<small_llama>;
  Ledger ledger;
  const auto model = open<Net>(goldens.model(), {.ledger = &ledger});
  Session session(model, {.tokens = 5});
  const std::int64_t before = ledger.current()[Category::workspace];
  KvCache cache(session, 32);
  CHECK(ledger.current()[Category::workspace] - before == cache.bytes());
  CHECK(cache.bytes() == 3 * 32 * (2 * 2 * 8) * 4); // layers, tokens, k and v of 2 heads of 8, floats
  const TensorView prompt = goldens.at("prompt");
  (void)session.run(cache, prompt);
  const std::array<std::int32_t, 1> next{3};
  const AllocationProbe probe;
  (void)session.run(cache, ids_view(next));
  (void)session.run(cache, prompt);
  CHECK(probe.count() == 0);
}

TEST_CASE("With BF16 weights Llama and Qwen2 compute what transformers does in float64, and in bfloat16 "
          "within its rounding") {
  check_bf16<Llama<small_llama>>("llama", {"ids"}, {{0, "logits"}});
  check_bf16<Llama<small_qwen>>("qwen2", {"ids"}, {{0, "logits"}});
}

TEST_CASE("The plan of buffers is near the least possible") {
  check_plan_of<Llama<llama3_8b>>({.tokens = 512});
  check_plan_of<LlamaNext<llama3_8b>>({.tokens = 512}, 88);
  check_plan_of<LlamaNext<llama3_8b>>({.batch = 4, .tokens = 1});
}
