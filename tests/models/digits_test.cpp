// SPDX-License-Identifier: Apache-2.0
// The digits model and its adapters against PyTorch and PEFT (tests/goldens/make_digits_goldens.py, float64).
#include "session/fixture.hpp"

#include <digits/digits_net.hpp>

#include <doctest/doctest.h>

#include <optional>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string data = TENON_EXAMPLES_DATA "/digits/data/";

struct DigitsModel {
  Ledger ledger{};
  Model<digits::Net> model = open<digits::Net>(data + "digits.safetensors", {.ledger = &ledger});
  Adapter<digits::Net> rotated = load_adapter<digits::Net>(data + "rotated", {.ledger = &ledger});
  Adapter<digits::Net> inverted = load_adapter<digits::Net>(data + "inverted", {.ledger = &ledger});
  Adapter<digits::Net> noisy = load_adapter<digits::Net>(data + "noisy", {.ledger = &ledger});
  SafetensorsFile golden{TENON_TEST_DATA "/goldens/digits/digits_goldens.safetensors", ledger,
                         Category::base_owned};
};

// Float sums of up to 128 terms through 8 layers.
constexpr double tolerance = 5e-6;

void check_logits(const Tensor& logits, const TensorView& golden) {
  REQUIRE(golden.dtype == DType::f64);
  REQUIRE(golden.size() == logits.size());
  const std::span<const double> expected(reinterpret_cast<const double*>(golden.data),
                                         static_cast<std::size_t>(golden.size()));
  double largest = 0;
  double error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    error = std::max(error, std::abs(static_cast<double>(logits.values()[i]) - expected[i]));
  }
  CHECK(error <= tolerance * largest);
}

} // namespace

TEST_CASE("Logits equal those of PyTorch and PEFT for every adapter scale and mode") {
  DigitsModel d;
  Session session(d.model);
  const TensorView x = d.golden.at("x");
  check_logits(session(x), d.golden.at("base"));
  struct Case {
    std::string key;
    std::vector<Adapter<digits::Net>> adapters;
  };
  std::vector<Case> cases{
      {"rotated@0.8+inverted@0.6", {d.rotated.scaled(0.8), d.inverted.scaled(0.6)}},
      {"rotated@1+inverted@-0.5+noisy@0.3", {d.rotated, d.inverted.scaled(-0.5), d.noisy.scaled(0.3)}}};
  for (const auto& [name, adapter] :
       {std::pair{"rotated", d.rotated}, {"inverted", d.inverted}, {"noisy", d.noisy}})
    for (const auto& [text, scale] : {std::pair{"1", 1.0}, {"0.5", 0.5}, {"-0.75", -0.75}})
      cases.push_back({concat(name, "@", text), {adapter.scaled(scale)}});
  for (const Case& c : cases) {
    CAPTURE(c.key);
    const auto attach = [&]<class Mode>(Mode, const std::string& key) {
      std::array<std::optional<Guard>, 3> guards; // one guard each, nested
      for (std::size_t i = 0; i < c.adapters.size(); ++i)
        guards[i].emplace(session.plan<Mode>(c.adapters[i]));
      check_logits(session(x), d.golden.at(key));
    };
    attach(side_path{}, c.key);
    attach(merged{}, "merged:" + c.key);
    attach(merged{}, c.key);
  }
}

TEST_CASE("One guard over several adapters equals one guard for each") {
  DigitsModel d;
  Session session(d.model);
  const Guard both = session.attach(d.rotated.scaled(0.8), d.inverted.scaled(0.6));
  check_logits(session(d.golden.at("x")), d.golden.at("rotated@0.8+inverted@0.6"));
}

TEST_CASE("The slots are those of the type") {
  static_assert(slot_count<digits::Net> == 8);
  static_assert(slots<digits::Net>[1].path == "blocks.*.up");
  DigitsModel d;
  CHECK(d.rotated.report().matched.size() == 8);
  CHECK(d.noisy.report().matched.size() == 6);
}
