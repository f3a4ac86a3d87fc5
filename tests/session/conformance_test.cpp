// SPDX-License-Identifier: Apache-2.0
// Behaviours of attaching that the tests of PEFT, diffusers and LyCORIS pin down, over every kind of adapter and by bytes
// where they allow a tolerance: docs/conformance.md says where each is. Some that they have no test of are at the end.
#include "session/fixture.hpp"
#include "support/kind_files.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Repeat<"layer", 2, Mlp>; // four slots: up, up, down, down

// x W^T + s x A^T B^T and x (W + s B A)^T differ by the rounding of sums of up to ten products, through four layers.
constexpr double side_against_merged = 1e-5;

/// A model and adapters of every kind.
struct Kinds {
  TemporaryFolder folder{};
  Ledger ledger{};
  Model<Net> model;
  Model<Net> owned; ///< the same weights, to be merged in place
  Tensor x = ramp({5, 6});

  explicit Kinds(DType dtype = DType::f32)
      : model((write_checkpoint<Net>(folder.file("model.safetensors"), 1, dtype),
               open<Net>(folder.file("model.safetensors"), {.ledger = &ledger}))),
        owned(open<Net>(folder.file("model.safetensors"), {.ledger = &ledger, .own_weights = true})) {}

  Adapter<Net> load(std::string_view kind, const KindOptions& options = {}, std::int64_t slots = -1) {
    const std::string name = concat(kind, options.rank, "-", options.seed, "-", slots);
    return load_adapter<Net>(write_kind<Net>(folder.file(name), kind, options, slots), {.ledger = &ledger});
  }
};

using Weights = std::vector<std::vector<std::byte>>;
Weights weights_of(const Session<Net>& session) {
  Weights out;
  for (std::int32_t slot = 0; slot < 4; ++slot) out.push_back(slot_bytes(session, slot));
  return out;
}
Weights merged_weights(Session<Net>& session, const Adapter<Net>& adapter, double scale) {
  const Guard guard = session.attach<merged>(adapter, scale);
  return weights_of(session);
}

/// `f(mode, session)` for each mode, with a session of its own.
template <class F>
void in_each_mode(const Kinds& kinds, F f) {
  {
    Session session(kinds.model);
    f(side_path{}, session);
    f(merged{}, session);
  }
  Session session(kinds.owned);
  f(in_place{}, session);
}

} // namespace

TEST_CASE("test_merge_layers: a kind has one output beside the weights, merged and in place, and the base "
          "after each") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Kinds kinds;
    const auto adapter = kinds.load(kind);
    for (const double scale : {1.0, 0.5, -1.5}) {
      CAPTURE(scale);
      std::optional<Tensor> side;
      std::optional<Tensor> overlay;
      in_each_mode(kinds, [&]<class Mode>(Mode, Session<Net>& session) {
        const Tensor base = session(kinds.x);
        const Weights before = weights_of(session);
        {
          const Guard guard = session.attach<Mode>(adapter, scale);
          const Tensor y = session(kinds.x);
          CHECK_FALSE(y == base);
          if (!side) side = y;
          CHECK(relative_error(y.values(), side->values()) < side_against_merged);
          if (Mode::mode == AttachMode::merged) overlay = y;
          if (Mode::mode == AttachMode::in_place) CHECK(y == *overlay);
        }
        CHECK(weights_of(session) == before);
        CHECK(session(kinds.x) == base);
      });
    }
  }
}

TEST_CASE("test_merge_layers_fp16: every kind merges into 16-bit weights, which come back bit for bit") {
  for (const DType dtype : {DType::f16, DType::bf16})
    for (const std::string_view kind : kind_names) {
      CAPTURE(std::string(kind));
      Kinds kinds(dtype);
      const auto adapter = kinds.load(kind);
      std::optional<Tensor> side;
      in_each_mode(kinds, [&]<class Mode>(Mode, Session<Net>& session) {
        const Tensor base = session(kinds.x);
        const Weights before = weights_of(session);
        {
          const Guard guard = session.attach<Mode>(adapter);
          CHECK(session.slot_weight(0).dtype == dtype);
          const Tensor y = session(kinds.x);
          if (!side) side = y;
          // a merge rounds each weight once: to 2^-9 (bf16) or 2^-12 of it, in four layers
          CHECK(relative_error(y.values(), side->values()) < 0.04);
        }
        CHECK(weights_of(session) == before);
        CHECK(session(kinds.x) == base);
      });
    }
}

TEST_CASE("test_lycoris_restore: attached, released and attached again a kind gives the same bits") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Kinds kinds;
    const auto adapter = kinds.load(kind);
    in_each_mode(kinds, [&]<class Mode>(Mode, Session<Net>& session) {
      const Tensor base = session(kinds.x);
      std::optional<Tensor> first;
      for (int i = 0; i < 3; ++i) {
        {
          const Guard guard = session.attach<Mode>(adapter, 0.75);
          if (!first) first = session(kinds.x);
          CHECK(session(kinds.x) == *first);
        }
        CHECK(session(kinds.x) == base);
      }
    });
  }
}

TEST_CASE("test_unmerge_after_sequential_merge_restores_base: kinds merged one after another, undone in any "
          "order") {
  Kinds kinds;
  std::vector<Adapter<Net>> adapters;
  for (const std::string_view kind : kind_names) adapters.push_back(kinds.load(kind));
  std::mt19937 random(5);
  in_each_mode(kinds, [&]<class Mode>(Mode, Session<Net>& session) {
    const Tensor base = session(kinds.x);
    const Weights before = weights_of(session);
    for (int turn = 0; turn < 8; ++turn) {
      std::array<std::optional<Guard>, kind_names.size()> guards;
      std::array<std::size_t, kind_names.size()> order{};
      for (std::size_t i = 0; i < order.size(); ++i) {
        guards[i].emplace(session.plan<Mode>(adapters[i], 0.25));
        order[i] = i;
      }
      static_cast<void>(session.run(kinds.x));
      std::shuffle(order.begin(), order.end(), random);
      for (const std::size_t i : order) {
        guards[i]->release();
        static_cast<void>(session.run(kinds.x));
      }
      CHECK(weights_of(session) == before);
      CHECK(session(kinds.x) == base);
    }
  });
}

TEST_CASE(
    "test_multiple_active_adapters: kinds at once, some negative, are what they are one guard on another") {
  Kinds kinds;
  const auto lora = kinds.load("LORA");
  const auto dora = kinds.load("DORA").scaled(0.5);
  const auto loha = kinds.load("LOHA").scaled(-0.75);
  const auto lokr = kinds.load("LOKR").scaled(-1);
  const auto ia3 = kinds.load("IA3").scaled(0.25);
  const auto oft = kinds.load("OFT").scaled(0.5);
  std::optional<Tensor> side;
  in_each_mode(kinds, [&]<class Mode>(Mode, Session<Net>& session) {
    const Tensor base = session(kinds.x);
    const Tensor at_once = [&] {
      const Guard guard = session.attach<Mode>(lora, dora, loha, lokr, ia3, oft);
      CHECK(guard.slot_count() == 4);
      return session(kinds.x);
    }();
    if (!side) side = at_once;
    CHECK(relative_error(at_once.values(), side->values()) < side_against_merged);
    {
      const Guard a = session.attach<Mode>(lora);
      const Guard b = session.attach<Mode>(dora, loha);
      const Guard c = session.attach<Mode>(lokr);
      const Guard d = session.attach<Mode>(ia3, oft);
      CHECK(relative_error(session(kinds.x).values(), at_once.values()) < side_against_merged);
    }
    CHECK(session(kinds.x) == base);
  });
}

TEST_CASE("Each of several kinds changes the pristine weight: their differences add up") {
  Kinds kinds;
  Session session(kinds.model);
  std::vector<Adapter<Net>> adapters;
  for (const std::string_view kind : kind_names) adapters.push_back(kinds.load(kind));
  const auto floats = [](const std::vector<std::byte>& bytes) {
    std::vector<float> out(bytes.size() / sizeof(float));
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
  };
  const std::vector<float> base = floats(slot_bytes(session, 2));
  std::vector<float> sum = base;
  for (const Adapter<Net>& adapter : adapters) {
    const std::vector<float> alone = floats(merged_weights(session, adapter, 1)[2]);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += alone[i] - base[i];
  }
  const Guard all = session.attach<merged>(adapters[0], adapters[1], adapters[2], adapters[3], adapters[4],
                                           adapters[5], adapters[6]);
  CHECK(relative_error(floats(slot_bytes(session, 2)), sum) < 1e-6); // float sums of seven differences
}

TEST_CASE("test_glora_safe_merge_does_not_corrupt_base_layer: an adapter that is not finite never reaches "
          "the base") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Kinds kinds;
    const auto sound = kinds.load(kind, {.seed = 9});
    const std::string path = write_kind<Net>(kinds.folder.file("bad"), kind);
    std::string bytes = read_file(path + "/adapter_model.safetensors");
    const float bad = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(bytes.data() + bytes.size() - sizeof bad, &bad, sizeof bad);
    write_file(path + "/adapter_model.safetensors", bytes);
    in_each_mode(kinds, [&]<class Mode>(Mode, Session<Net>& session) {
      const Tensor base = session(kinds.x);
      const Weights before = weights_of(session);
      const Tensor expected = [&] {
        const Guard guard = session.attach<Mode>(sound);
        return session(kinds.x);
      }();
      BytesByCategory held = kinds.ledger.current();
      CHECK_THROWS_AS((void)load_adapter<Net>(path, {.ledger = &kinds.ledger}), load_error);
      CHECK(kinds.ledger.current() == held);
      CHECK(weights_of(session) == before);
      // attached all the same, by one who turned the check off, it is gone with its guard
      const auto unchecked = load_adapter<Net>(path, {.ledger = &kinds.ledger, .checks_values = false});
      {
        const Guard guard = session.attach<Mode>(unchecked);
        const Tensor y = session(kinds.x);
        CHECK(std::any_of(y.values().begin(), y.values().end(), [](float v) { return std::isnan(v); }));
      }
      CHECK(weights_of(session) == before);
      CHECK(session(kinds.x) == base);
      const Guard guard = session.attach<Mode>(sound);
      CHECK(session(kinds.x) == expected);
    });
  }
}

TEST_CASE("test_merge_with_lora_bias_when_base_layer_has_no_bias: it is added, and gone with the guard") {
  using Bare = Linear<"fc", 4, 6, NoBias>;
  const TemporaryFolder folder;
  write_checkpoint<Bare>(folder.file("model.safetensors"));
  const auto model = open<Bare>(folder.file("model.safetensors"));
  const auto load = [&](bool has_bias) {
    RandomTensors tensors(3, DType::f32);
    tensors.add("base_model.model.fc.lora_A.weight", {2, 4});
    tensors.add("base_model.model.fc.lora_B.weight", {6, 2});
    if (has_bias) tensors.add("base_model.model.fc.lora_B.bias", {6});
    const std::string path = folder.file(has_bias ? "with" : "without");
    std::filesystem::create_directories(path);
    tensors.write(path + "/adapter_model.safetensors");
    write_file(path + "/adapter_config.json",
               R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "lora_bias": true})");
    return load_adapter<Bare>(path);
  };
  const auto with = load(true);
  const auto without = load(false);
  Session session(model);
  const Tensor x = ramp({3, 4});
  const Tensor base = session(x);
  REQUIRE(with.data()->biases.size() == 1);
  const auto* bias = reinterpret_cast<const float*>(with.data()->biases[0].values.data);
  const auto check = [&]<class Mode>(Mode) {
    const Tensor plain = [&] {
      const Guard guard = session.attach<Mode>(without, 0.5);
      return session(x);
    }();
    {
      const Guard guard = session.attach<Mode>(with, 0.5);
      const Tensor y = session(x);
      for (std::size_t i = 0; i < 18; ++i) // scale = alpha / rank = 2, times 0.5
        CHECK(y.values()[i] == doctest::Approx(plain.values()[i] + bias[i % 6]).epsilon(1e-5));
    }
    CHECK(session(x) == base);
  };
  check(side_path{});
  check(merged{});
}

TEST_CASE("A whole bias for a layer without one is refused by name") {
  using Bare = Linear<"fc", 4, 6, NoBias>;
  const TemporaryFolder folder;
  RandomTensors tensors(3, DType::f32);
  tensors.add("base_model.model.fc.bias", {6});
  tensors.write(folder.file("adapter_model.safetensors"));
  write_file(folder.file("adapter_config.json"), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})");
  const auto adapter = load_adapter<Bare>(folder.path(), {.on_mismatch = OnMismatch::report});
  REQUIRE(adapter.report().findings.size() == 1);
  CHECK(adapter.report().findings[0].kind == FindingKind::refused_kind);
  CHECK(adapter.report().findings[0].what == "the module has no bias that it could change");
}

TEST_CASE("test_disable_adapters: a second session has the base while the first is adapted") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Kinds kinds;
    Session adapted(kinds.model);
    Session plain(kinds.model);
    const Tensor base = plain(kinds.x);
    const Guard guard = adapted.attach<merged>(kinds.load(kind));
    const Tensor with = adapted(kinds.x);
    CHECK_FALSE(with == base);
    CHECK(plain(kinds.x) == base);
    CHECK(adapted(kinds.x) == with);
  }
}

TEST_CASE("test_disable_adapters_exiting_context: what was attached before a scope is attached after it") {
  Kinds kinds;
  const auto outer = kinds.load("DORA");
  const auto inner = kinds.load("LOHA");
  in_each_mode(kinds, [&]<class Mode>(Mode, Session<Net>& session) {
    const Guard guard = session.attach<Mode>(outer, 0.5);
    const Tensor before = session(kinds.x);
    const Weights weights = weights_of(session);
    try {
      const Guard in_scope = session.attach<Mode>(inner);
      CHECK_FALSE(session(kinds.x) == before);
      throw std::runtime_error("a request that failed");
    } catch (const std::runtime_error&) {
    }
    CHECK(session(kinds.x) == before);
    CHECK(weights_of(session) == weights);
  });
}

TEST_CASE("test_inference_load_delete_load_adapters: loaded again from its file a kind gives the same bits") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Kinds kinds;
    Session session(kinds.model);
    std::optional<Tensor> first;
    const std::string path = write_kind<Net>(kinds.folder.file("adapter"), kind);
    const std::int64_t held = kinds.ledger.current()[Category::adapter];
    for (int i = 0; i < 3; ++i) {
      {
        const auto adapter = load_adapter<Net>(path, {.ledger = &kinds.ledger});
        CHECK(kinds.ledger.current()[Category::adapter] == held + adapter.bytes());
        const Guard guard = session.attach(adapter);
        if (!first) first = session(kinds.x);
        CHECK(session(kinds.x) == *first);
      }
      CHECK(kinds.ledger.current()[Category::adapter] == held);
    }
  }
}

TEST_CASE("test_delete_adapter: a handle may go while its adapter is attached, and the guard keeps it") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Kinds kinds;
    Session session(kinds.model);
    const Tensor base = session(kinds.x);
    const std::int64_t held = kinds.ledger.current()[Category::adapter];
    {
      std::optional<Adapter<Net>> adapter = kinds.load(kind);
      const Guard side = session.attach(*adapter);
      const Guard overlay = session.attach<merged>(*adapter);
      const Tensor with = session(kinds.x);
      adapter.reset();
      CHECK(kinds.ledger.current()[Category::adapter] > held);
      CHECK(session(kinds.x) == with);
    }
    CHECK(kinds.ledger.current()[Category::adapter] == held);
    CHECK(session(kinds.x) == base);
  }
}

TEST_CASE("test_hotswap_works: from any kind to any other, of other ranks and alphas, forth and back") {
  Kinds kinds;
  Session session(kinds.model);
  const Tensor base = session(kinds.x);
  std::vector<Adapter<Net>> adapters;
  std::vector<Weights> expected;
  for (const std::string_view kind : kind_names)
    for (const KindOptions& options : {KindOptions{1, 0.5, 3}, KindOptions{3, 7, 4}, KindOptions{16, 4, 5}}) {
      adapters.push_back(kinds.load(kind, options)); // 16: more than either width
      expected.push_back(merged_weights(session, adapters.back(), 0.5));
    }
  {
    Guard guard = session.attach<merged>(adapters[0], 0.5);
    const std::byte* const place = session.slot_weight(0).data;
    for (std::size_t from = 0; from < adapters.size(); ++from)
      for (std::size_t to = 0; to < adapters.size(); ++to) {
        CAPTURE(from);
        CAPTURE(to);
        guard.switch_to(session.plan<merged>(adapters[from], 0.5));
        CHECK(weights_of(session) == expected[from]);
        guard.switch_to(session.plan<merged>(adapters[to], 0.5));
        CHECK(weights_of(session) == expected[to]);
        CHECK(session.slot_weight(0).data == place); // in the same bytes
      }
  }
  CHECK(session(kinds.x) == base);
}

TEST_CASE("test_hotswap_works beside the weights: a new guard instead of the old, forth and back") {
  Kinds kinds;
  Session session(kinds.model);
  const Tensor base = session(kinds.x);
  const auto one = kinds.load("LORA", {1, 0.5, 3});
  const auto two = kinds.load("LOKR", {3, 7, 4});
  std::optional<Guard> guard;
  guard.emplace(session.plan(one));
  const Tensor first = session(kinds.x);
  guard.emplace(session.plan(two));
  const Tensor second = session(kinds.x);
  for (int i = 0; i < 3; ++i) {
    guard.emplace(session.plan(one));
    CHECK(session(kinds.x) == first);
    guard.emplace(session.plan(two));
    CHECK(session(kinds.x) == second);
  }
  guard.reset();
  CHECK(session(kinds.x) == base);
}

TEST_CASE("test_hotswap_missing_key_works: a slot that the next adapter does not name has the base's weight "
          "again") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Kinds kinds;
    Session session(kinds.model);
    const Weights base = weights_of(session);
    const auto all = kinds.load(kind);
    const auto some = kinds.load(kind, {}, 2);
    const Weights with_all = merged_weights(session, all, 1);
    {
      Guard guard = session.attach<merged>(all);
      guard.switch_to(session.plan<merged>(some));
      const Weights now = weights_of(session);
      CHECK(now[0] == with_all[0]);
      CHECK(now[2] == base[2]);
      CHECK(now[3] == base[3]);
      guard.switch_to(session.plan<merged>(all));
      CHECK(weights_of(session) == with_all);
    }
    CHECK(weights_of(session) == base);
  }
}

TEST_CASE("test_hotswap_extra_key_raises: a file with a key too many is refused and what is attached stays") {
  Kinds kinds;
  Session session(kinds.model);
  Guard guard = session.attach<merged>(kinds.load("DORA"));
  const Weights before = weights_of(session);
  using Larger = Repeat<"layer", 3, Mlp>;
  const std::string path = write_kind<Larger>(kinds.folder.file("larger"), "LORA");
  CHECK_THROWS_AS(guard.switch_to(session.plan<merged>(load_adapter<Net>(path))), load_error);
  CHECK(weights_of(session) == before);
}

TEST_CASE("A strength is changed while an adapter is merged, without drift") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Kinds kinds;
    Session session(kinds.model);
    const auto adapter = kinds.load(kind);
    const Weights base = weights_of(session);
    const Weights half = merged_weights(session, adapter, 0.5);
    const Weights minus = merged_weights(session, adapter, -1.25);
    {
      Guard guard = session.attach<merged>(adapter);
      for (int i = 0; i < 50; ++i) {
        guard.switch_to(session.plan<merged>(adapter, 0.5));
        CHECK(weights_of(session) == half);
        guard.switch_to(session.plan<merged>(adapter, -1.25));
        CHECK(weights_of(session) == minus);
      }
    }
    CHECK(weights_of(session) == base);
  }
}

TEST_CASE("Five hundred random cycles of every kind and mode leave no bit and no byte behind") {
  Kinds kinds;
  std::vector<Adapter<Net>> adapters;
  for (const std::string_view kind : kind_names) adapters.push_back(kinds.load(kind));
  Session session(kinds.model);
  const Tensor base = session(kinds.x);
  const Weights weights = weights_of(session);
  const std::uint64_t hash = bytes_hash(kinds.model.checkpoint());
  static_cast<void>(merged_weights(session, adapters[1], 1)); // scratch grows once
  const BytesByCategory held = kinds.ledger.current();
  std::mt19937 random(11);
  const auto pick = [&](std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(random);
  };
  for (int i = 0; i < 500; ++i) {
    std::array<std::optional<Guard>, 3> guards;
    for (std::optional<Guard>& guard : guards) {
      const Adapter<Net>& adapter = adapters[pick(adapters.size())];
      const double scale = std::uniform_real_distribution<double>(-1.5, 1.5)(random);
      if (pick(2) == 0)
        guard.emplace(session.plan<merged>(adapter, scale));
      else
        guard.emplace(session.plan(adapter, scale));
    }
    static_cast<void>(session.run(kinds.x));
    guards[pick(3)].reset();
    guards[pick(3)].reset();
    if (pick(3) == 0) static_cast<void>(session.run(kinds.x));
  }
  CHECK(weights_of(session) == weights);
  CHECK(session(kinds.x) == base);
  CHECK(kinds.ledger.current() == held);
  CHECK(bytes_hash(kinds.model.checkpoint()) == hash);
}
