// SPDX-License-Identifier: Apache-2.0
// Adapters of every kind attached to a session's linears and convolutions, beside the weights and merged into them, against outputs of
// PEFT's and LyCORIS's own forward passes (tests/goldens/kinds); and merged on a device, which must be the same bits.
#include "support/stand_in_device.hpp"
#include "support/table.hpp"

#include <tenon/tenon.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <map>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string folder = TENON_TEST_DATA "/goldens/kinds/";

double relative_error(const TensorView& golden, const Tensor& ours) {
  const auto* const expected = reinterpret_cast<const float*>(golden.data);
  double error = 0;
  double largest = 0;
  for (std::size_t i = 0; i < ours.values().size(); ++i) {
    error =
        std::max(error, std::abs(static_cast<double>(expected[i]) - static_cast<double>(ours.values()[i])));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return error / largest;
}

/// An input of fixed extents: an odd height, halved with padding, is no named axis over two.
template <std::int64_t... Extents>
struct FixedInput {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::of({batch_dim, fixed(Extents)...}); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder&, std::span<const WireId> wires) { return wires[0]; }
};

/// The case in the model's own weights, whose bytes come back.
template <class Net>
void check_in_place(const Model<Net>& model, const Adapter<Net>& adapter, double strength,
                    const TensorView& x, const TensorView& golden, double tolerance) {
  Session session(model);
  const Tensor base = session(x);
  const TensorView weight = session.slot_weight(0);
  const std::vector<std::byte> bytes(weight.data, weight.data + weight.bytes());
  {
    const Guard guard = session.template attach<in_place>(adapter, strength);
    CHECK(relative_error(golden, session(x)) <= tolerance);
  }
  CHECK(std::memcmp(weight.data, bytes.data(), bytes.size()) == 0);
  CHECK(session(x) == base);
}

constexpr Config on_device{.memory = device};

/// The case merged on a device, against the output of a session on the host that has it merged.
template <class Net>
void check_on_device(const Model<Net, on_device>& model, const Adapter<Net>& adapter, double strength,
                     const TensorView& x, const Tensor& expected) {
  Session<Net, on_device> session(model);
  const Guard guard = session.template attach<merged>(adapter, strength);
  CHECK(session(x) == expected);
}

/// All cases that have outputs for the net's one module.
template <class Net>
int check_module(const std::string& module) {
  Ledger ledger;
  std::map<std::string, SafetensorsFile> goldens;
  for (const std::string tool : {"peft", "lycoris", "kohya"})
    goldens.try_emplace(tool, folder + tool + "_outputs.safetensors", ledger, Category::base_owned);
  const SafetensorsFile inputs(folder + "inputs.safetensors", ledger, Category::base_owned);
  TensorView x = inputs.at(module);
  std::vector<std::int32_t> ids;
  if (x.dtype == DType::i64) { // ids of an embedding
    for (std::int64_t i = 0; i < x.size(); ++i) {
      std::int64_t id = 0;
      std::memcpy(&id, x.data + i * 8, sizeof id);
      ids.push_back(static_cast<std::int32_t>(id));
    }
    x = TensorView(ids.data(), DType::i32, x.shape());
  }
  if (module == "group_norm") { // [batch, channels, positions]: an image of one row
    const std::array<std::int64_t, 4> image{x.extent(0), x.extent(1), 1, x.extent(2)};
    x = TensorView(x.data, x.dtype, image);
  }
  const auto model = open<Net>(folder + "base.safetensors");
  const auto own = open<Net>(folder + "base.safetensors", {.own_weights = true});
  const auto moved =
      open<Net, on_device>(folder + "base.safetensors", std::make_shared<StandInDevice>(program_of<Net>()));
  int checked = 0;
  for (const std::vector<std::string>& row : read_table(folder + "manifest.tsv")) {
    const auto golden = goldens.at(row[1]).find(row[0] + "/" + module);
    if (!golden || row[3] != "base.safetensors" || row[0].starts_with("glora-rslora@") ||
        row[0].starts_with("vera-no-projection@") || row[0].starts_with("lora-trainable-tokens@") ||
        row[7] == "apart")
      continue;
    CAPTURE(row[0]);
    const std::size_t colon = row[0].find(':');
    const std::string name =
        colon == std::string::npos ? "" : row[0].substr(colon + 1, row[0].find('@') - colon - 1);
    const auto adapter =
        load_adapter<Net>(folder + row[2], {.on_mismatch = OnMismatch::report, .adapter_name = name});
    const double strength = std::stod(row[5]);
    constexpr double tolerance = 2e-6; // float sums of up to 24 products beside the weights' own 1e-6
    Session session(model);
    const Tensor base = session(x);
    const BytesByCategory before = session.ledger().current();
    {
      const Guard guard = session.attach(adapter, strength);
      CHECK(relative_error(*golden, session(x)) <= tolerance);
      session.use_threads(2);
      CHECK(relative_error(*golden, session(x)) <= tolerance);
      session.use_threads(1);
    }
    CHECK(session(x) == base);
    {
      const Guard guard = session.template attach<merged>(adapter, strength);
      const Tensor y = session(x);
      CHECK(relative_error(*golden, y) <= tolerance);
      check_on_device<Net>(moved, adapter, strength, x, y);
    }
    CHECK(session(x) == base);
    // what stays is scratch, which is the session's
    BytesByCategory after = session.ledger().current();
    after[Category::scratch] = before[Category::scratch];
    CHECK(after == before);
    check_in_place(own, adapter, strength, x, *golden, tolerance);
    ++checked;
  }
  return checked;
}

} // namespace

TEST_CASE("Adapters of every kind give their tools' outputs beside the weights and merged") {
  CHECK(check_module<Sequential<Linear<"attn.q", 12, 16, NoBias>>>("attn.q") > 50);
  CHECK(check_module<Sequential<Linear<"attn.k", 12, 16>>>("attn.k") > 20);
  CHECK(check_module<Sequential<Linear<"attn.o", 16, 16>>>("attn.o") > 20);
  CHECK(check_module<Sequential<Linear<"mlp.down", 24, 16>>>("mlp.down") > 5);
  CHECK(check_module<Sequential<Embedding<"embed", 20, 12, AnySlot>>>("embed") > 3);
}

TEST_CASE("Stored norms give their tools' outputs beside the weights and merged") {
  using Layer = Sequential<Takes<Shape::of({batch_dim, fixed(16)})>, NormSlots<LayerNorm<"norm", 16>>>;
  using Groups = Sequential<ChannelsLast<12>, NormSlots<GroupNorm<"group_norm", 4, 12>>, ChannelsFirst<12>>;
  CHECK(check_module<Layer>("norm") >= 4);
  CHECK(check_module<Groups>("group_norm") >= 4);
}

TEST_CASE("Adapters of every kind give their tools' outputs on convolutions beside the weights and merged") {
  using Three = Sequential<FixedInput<8, 5, 5>, ChannelsLast<8>,
                           Conv2d<"conv.three", 8, 12, 3, Stride<2>, Padding<1>>, ChannelsFirst<12>>;
  using One = Sequential<ChannelsLast<8>, Conv2d<"conv.one", 8, 12, 1>, ChannelsFirst<12>>;
  using Box =
      Sequential<ChannelsLast<4, 3>, Conv3d<"conv.box", 4, 6, Extent{1, 2, 2}, Stride<Extent{1, 2, 2}>>,
                 ChannelsFirst<6, 3>>;
  CHECK(check_module<Three>("conv.three") > 80);
  CHECK(check_module<One>("conv.one") > 50);
  CHECK(check_module<Box>("conv.box") > 20);
}
