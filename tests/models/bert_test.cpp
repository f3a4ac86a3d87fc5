// SPDX-License-Identifier: Apache-2.0
// all-MiniLM-L6-v2 with its real weights, and adapters trained by PEFT, against what transformers and PEFT
// compute in float64 (tests/goldens/README.md).
#include "support/sentence_model.hpp"

#include <doctest/doctest.h>

#include <tenon/models/bert.hpp>
#include <tenon/tenon.hpp>
#include <tenon/weights/safetensors.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace tenon;
using namespace tenon::models;
using tenon::test::fetched_model;

// --- what the types say ------------------------------------------------------------------------

static_assert(runs_on_device<MiniLM>);
static_assert(slot_count<BertEncoder<minilm_l6>> == 36 && slot_count<MiniLM> == 36);
static_assert(weight_count<MiniLM> == 5 + 6 * 16);
static_assert(parameter_count<MiniLM> == 22'565'376);                  // 22,713,216 with the pooler
static_assert(parameter_count<Bert<bert_base>> == 108'891'648);        // 109,482,240 with the pooler
static_assert(adapter_parameters<MiniLM, LoraOfRank<8>>() == 331'776); // on all linears
static_assert(slots<MiniLM>.size() == 6);
static_assert(slots<MiniLM>[0].path == "encoder.layer.*.attention.self.query" &&
              slots<MiniLM>[0].copies == 6);
static_assert(slots<MiniLM>[4].path == "encoder.layer.*.intermediate.dense" && slots<MiniLM>[4].out == 1536);
static_assert(weights<MiniLM>[0].path == "embeddings.word_embeddings.weight");
static_assert(output_shape<MiniLM> == Shape::of({batch_dim, fixed(384)}));

// --- goldens -----------------------------------------------------------------------------------

/// Largest difference allowed, as a share of the reference's largest entry. PyTorch's own float32 differs by
/// 2e-7 of it in hidden states and 1e-6 in embeddings.
constexpr double tolerance = 1e-5;

constexpr const char* adapters_folder = TENON_EXAMPLES_DATA "/sentences/data/";

std::span<const float> floats(const TensorView& view) {
  REQUIRE(view.dtype == DType::f32);
  return {reinterpret_cast<const float*>(view.data), static_cast<std::size_t>(view.size())};
}

/// max |a - b| / max |b|
double relative_error(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  double difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    if (std::isnan(a[i])) return std::numeric_limits<double>::infinity();
  }
  return difference / largest;
}

struct Goldens {
  Ledger ledger{};
  SafetensorsFile file{TENON_TEST_DATA "/goldens/minilm/minilm_goldens.safetensors", ledger,
                       Category::base_owned};

  [[nodiscard]] TensorView at(const std::string& key) const { return file.at(key); }
  [[nodiscard]] std::span<const float> values(const std::string& key) const { return floats(at(key)); }
};

/// The rows of hidden states whose token is not padding, as the goldens keep them.
std::vector<float> unpadded(const Tensor& hidden, std::span<const float> mask) {
  std::vector<float> out;
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] == 0) continue;
    const std::span<const float> row = hidden.row(static_cast<std::int64_t>(i));
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

/// The model with both adapters and the batch `b` of the goldens.
struct Encoder {
  Goldens goldens{};
  Ledger ledger{};
  Model<MiniLM> model;
  Adapter<MiniLM> tone_qv =
      load_adapter<MiniLM>(std::string(adapters_folder) + "tone_qv", {.ledger = &ledger});
  Adapter<MiniLM> tone_all =
      load_adapter<MiniLM>(std::string(adapters_folder) + "tone_all", {.ledger = &ledger});
  TensorView ids = goldens.at("b.ids");
  TensorView mask = goldens.at("b.mask");

  explicit Encoder(const std::string& folder)
      : model(open<MiniLM>(folder + "/model.safetensors", {.ledger = &ledger})) {}

  /// Compares both outputs with the goldens of a case.
  void check(Session<MiniLM>& session, const std::string& name) const {
    CAPTURE(name);
    const auto [embedding, hidden] = session(ids, mask);
    const double embedding_error = relative_error(embedding.values(), goldens.values("b.embedding/" + name));
    const double hidden_error =
        relative_error(unpadded(hidden, floats(mask)), goldens.values("b.last_hidden/" + name));
    CHECK(embedding_error <= tolerance);
    CHECK(hidden_error <= tolerance);
  }
};

struct Case {
  std::string name{};
  double tone_qv = 0; ///< 0: not attached
  double tone_all = 0;
};
const std::vector<Case> cases{{"tone_qv@1", 1, 0},
                              {"tone_qv@0.5", 0.5, 0},
                              {"tone_qv@-0.5", -0.5, 0},
                              {"tone_all@1", 0, 1},
                              {"tone_all@0.5", 0, 0.5},
                              {"tone_all@-0.5", 0, -0.5},
                              {"tone_qv@0.7+tone_all@0.4", 0.7, 0.4}};

template <class Mode>
Guard attach(Session<MiniLM>& session, const Encoder& encoder, const Case& c) {
  if (c.tone_all == 0) return session.attach<Mode>(encoder.tone_qv, c.tone_qv);
  if (c.tone_qv == 0) return session.attach<Mode>(encoder.tone_all, c.tone_all);
  return session.attach<Mode>(encoder.tone_qv.scaled(c.tone_qv), encoder.tone_all.scaled(c.tone_all));
}

/// The encoder's first `Layers` layers, read from the same checkpoint.
template <std::int64_t Layers>
using FirstLayers = Bert<BertSize{30522, 512, 384, Layers, 12, 1536}>;

template <class Net>
double hidden_error(const std::string& folder, const Goldens& goldens, const std::string& key,
                    const auto&... inputs) {
  Ledger ledger;
  const auto model = open<Net>(folder + "/model.safetensors", {.ledger = &ledger});
  Session session(model);
  return relative_error(session(inputs...).values(), goldens.values(key));
}

} // namespace

TEST_CASE("The embeddings and every layer give the hidden states of transformers") {
  const auto folder = fetched_model();
  if (!folder) return;
  const Goldens goldens;
  const TensorView ids = goldens.at("a.ids");
  const TensorView mask = goldens.at("a.mask");
  CHECK(hidden_error<BertEmbeddings<minilm_l6>>(*folder, goldens, "a.hidden.0", ids) <= tolerance);
  CHECK(hidden_error<FirstLayers<1>>(*folder, goldens, "a.hidden.1", ids, mask) <= tolerance);
  CHECK(hidden_error<FirstLayers<2>>(*folder, goldens, "a.hidden.2", ids, mask) <= tolerance);
  CHECK(hidden_error<FirstLayers<3>>(*folder, goldens, "a.hidden.3", ids, mask) <= tolerance);
  CHECK(hidden_error<FirstLayers<4>>(*folder, goldens, "a.hidden.4", ids, mask) <= tolerance);
  CHECK(hidden_error<FirstLayers<5>>(*folder, goldens, "a.hidden.5", ids, mask) <= tolerance);
  CHECK(hidden_error<FirstLayers<6>>(*folder, goldens, "a.hidden.6", ids, mask) <= tolerance);
}

TEST_CASE("The net names every tensor of the checkpoint but the pooler and the list of positions") {
  const auto folder = fetched_model();
  if (!folder) return;
  const Encoder encoder(*folder);
  std::string unused;
  for (const std::string_view name : encoder.model.unused_names()) unused += concat(name, " ");
  CHECK(unused == "embeddings.position_ids pooler.dense.bias pooler.dense.weight ");
  CHECK(encoder.tone_qv.report().matched.size() == 12);
  CHECK(encoder.tone_all.report().matched.size() == 36);
}

TEST_CASE("A padded batch without adapters gives the embeddings of transformers") {
  const auto folder = fetched_model();
  if (!folder) return;
  const Encoder encoder(*folder);
  Session session(encoder.model);
  encoder.check(session, "base");
}

TEST_CASE("Side paths give what PEFT computes, at any scale and together") {
  const auto folder = fetched_model();
  if (!folder) return;
  const Encoder encoder(*folder);
  Session session(encoder.model);
  for (const Case& c : cases) {
    const Guard guard = attach<side_path>(session, encoder, c);
    encoder.check(session, c.name);
  }
  for (const Case& c : {cases[0], cases[3]}) {
    const Guard guard = attach<side_path>(session, encoder, c);
    encoder.check(session, "merged:" + c.name);
  }
}

TEST_CASE("Merged adapters give what PEFT computes, at any scale and together") {
  const auto folder = fetched_model();
  if (!folder) return;
  const Encoder encoder(*folder);
  Session session(encoder.model);
  for (const Case& c : cases) {
    const Guard guard = attach<merged>(session, encoder, c);
    encoder.check(session, c.name);
  }
  for (const Case& c : {cases[0], cases[3]}) {
    const Guard guard = attach<merged>(session, encoder, c);
    encoder.check(session, "merged:" + c.name);
  }
}

TEST_CASE("One adapter merged and another beside it give what PEFT computes for both") {
  const auto folder = fetched_model();
  if (!folder) return;
  const Encoder encoder(*folder);
  Session session(encoder.model);
  SUBCASE("the merged one first") {
    const Guard merged_guard = session.attach<merged>(encoder.tone_all, 0.4);
    const Guard side_guard = session.attach(encoder.tone_qv, 0.7);
    encoder.check(session, "tone_qv@0.7+tone_all@0.4");
  }
  SUBCASE("the side path first") {
    const Guard side_guard = session.attach(encoder.tone_qv, 0.7);
    const Guard merged_guard = session.attach<merged>(encoder.tone_all, 0.4);
    encoder.check(session, "tone_qv@0.7+tone_all@0.4");
  }
}

TEST_CASE("After a merged adapter and a side path the base gives the same bits") {
  const auto folder = fetched_model();
  if (!folder) return;
  const Encoder encoder(*folder);
  Session session(encoder.model);
  const std::array<Tensor, 2> before = session(encoder.ids, encoder.mask);
  const BytesByCategory held = encoder.ledger.current();
  std::optional<Guard> merged_guard;
  std::optional<Guard> side_guard;
  merged_guard.emplace(session.plan<merged>(encoder.tone_all));
  side_guard.emplace(session.plan(encoder.tone_qv, 0.7));
  CHECK_FALSE(session(encoder.ids, encoder.mask) == before);
  SUBCASE("the last attached ends first") { side_guard.reset(); }
  SUBCASE("the first attached ends first") { merged_guard.reset(); }
  CHECK_FALSE(session(encoder.ids, encoder.mask) == before);
  side_guard.reset();
  merged_guard.reset();
  CHECK(session(encoder.ids, encoder.mask) == before);
  CHECK(encoder.ledger.current() == held);
}
