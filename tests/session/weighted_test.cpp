// SPDX-License-Identifier: Apache-2.0
// Weights by block: a factor for each slot, chosen by its path.
#include "session/fixture.hpp"
#include "support/kind_files.hpp"

#include <doctest/doctest.h>

#include <map>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Repeat<"layer", 3, Mlp>; // slots: up of the three layers, then down

/// An adapter whose factors are written on a file for some slots alone is the reference for weights of 0 and 1.
struct Nets {
  TemporaryFolder folder{};
  Ledger ledger{};
  Model<Net> model = (write_checkpoint<Net>(folder.file("model.safetensors")),
                      open<Net>(folder.file("model.safetensors"), {.ledger = &ledger}));
  Adapter<Net> load(std::string_view kind, std::int64_t slots = -1) {
    const std::string name = concat(kind, slots);
    return load_adapter<Net>(write_kind<Net>(folder.file(name), kind, {}, slots), {.ledger = &ledger});
  }
};

} // namespace

TEST_CASE("The factor of each slot is asked for once by its path") {
  Nets nets;
  const auto adapter = nets.load("LORA");
  std::map<std::string, int> asked;
  const auto weighted = adapter.weighted([&](std::string_view path) {
    ++asked[std::string(path)];
    return 1.0;
  });
  CHECK(asked == std::map<std::string, int>{{"layer.0.up", 1},
                                            {"layer.1.up", 1},
                                            {"layer.2.up", 1},
                                            {"layer.0.down", 1},
                                            {"layer.1.down", 1},
                                            {"layer.2.down", 1}});
  CHECK(adapter.slot_weights() == nullptr);
  REQUIRE(weighted.slot_weights() != nullptr);
  CHECK(*weighted.slot_weights() == std::vector<double>(6, 1.0));
  CHECK(weighted.data() == adapter.data()); // nothing is copied but the factors
  CHECK(weighted.bytes() == adapter.bytes());
}

TEST_CASE("A factor of one for each slot changes no bit, for any kind and in any mode") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Nets nets;
    Session session(nets.model);
    const Tensor x = ramp({5, 6});
    const auto adapter = nets.load(kind);
    const auto weighted = adapter.weighted([](std::string_view) { return 1; });
    const auto check = [&]<class Mode>(Mode) {
      const Tensor plain = [&] {
        const Guard guard = session.attach<Mode>(adapter, 0.75);
        return session(x);
      }();
      const Guard guard = session.attach<Mode>(weighted, 0.75);
      CHECK(session(x) == plain);
    };
    check(side_path{});
    check(merged{});
  }
}

TEST_CASE("A factor multiplies the scale of its slot alone") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Nets nets;
    Session session(nets.model);
    const auto adapter = nets.load(kind);
    const auto by_layer = [](std::string_view path) {
      return path.starts_with("layer.0.") ? 0.25 : path.ends_with(".up") ? -1.5 : 2.0;
    };
    const auto weighted = adapter.weighted(by_layer);
    std::vector<std::vector<std::byte>> expected;
    for (std::int32_t slot = 0; slot < 6; ++slot) {
      const double factor = by_layer(slot_path(program_of<Net>(), slot));
      const Guard guard = session.attach<merged>(adapter, 0.5 * factor);
      expected.push_back(slot_bytes(session, slot));
    }
    const Tensor x = ramp({5, 6});
    const Tensor base = session(x);
    {
      const Guard guard = session.attach<merged>(weighted, 0.5);
      for (std::int32_t slot = 0; slot < 6; ++slot)
        CHECK(slot_bytes(session, slot) == expected[static_cast<std::size_t>(slot)]);
    }
    CHECK(session(x) == base);
  }
}

TEST_CASE("The side path takes the same factors as the merge") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Nets nets;
    Session session(nets.model);
    const Tensor x = ramp({5, 6});
    const auto weighted =
        nets.load(kind).weighted([](std::string_view path) { return path.ends_with("up") ? 0.5 : -0.25; });
    const Tensor side = [&] {
      const Guard guard = session.attach(weighted);
      return session(x);
    }();
    const Guard guard = session.attach<merged>(weighted);
    CHECK(relative_error(side.values(), session(x).values()) < 1e-5); // float sums through six layers
  }
}

TEST_CASE("Factors of zero and one are the adapter of the remaining slots") {
  for (const std::string_view kind : {"LORA", "LOHA", "LOKR", "IA3"}) { // at strength 0 these change nothing
    CAPTURE(std::string(kind));
    Nets nets;
    Session session(nets.model);
    const auto some = nets.load(kind, 3);
    const auto weighted =
        nets.load(kind).weighted([](std::string_view path) { return path.ends_with(".up") ? 1 : 0; });
    std::vector<std::vector<std::byte>> expected;
    {
      const Guard guard = session.attach<merged>(some);
      CHECK(guard.slot_count() == 3);
      for (std::int32_t slot = 0; slot < 6; ++slot) expected.push_back(slot_bytes(session, slot));
    }
    const Guard guard = session.attach<merged>(weighted);
    CHECK(guard.slot_count() == 6);
    for (std::int32_t slot = 0; slot < 6; ++slot)
      CHECK(slot_bytes(session, slot) == expected[static_cast<std::size_t>(slot)]);
  }
}

TEST_CASE("Factors and a handle's weight multiply, and later factors replace earlier ones") {
  Nets nets;
  Session session(nets.model);
  const auto adapter = nets.load("LORA");
  const auto half = [](std::string_view) { return 0.5; };
  const auto bytes = [&](const Adapter<Net>& with, double scale) {
    const Guard guard = session.attach<merged>(with, scale);
    return slot_bytes(session, 4);
  };
  const auto expected = bytes(adapter, 0.75);
  CHECK(bytes(adapter.scaled(3).weighted(half), 0.5) == expected);
  CHECK(bytes(adapter.weighted(half).scaled(3), 0.5) == expected);
  CHECK(bytes(adapter.weighted([](std::string_view) { return 9.0; }).weighted(half).scaled(1.5), 1.0) ==
        expected);
  CHECK(adapter.scaled(3).weighted(half).weight() == 3);
}

TEST_CASE("Two adapters of one attach keep factors of their own, and a switch brings new ones") {
  Nets nets;
  Session session(nets.model);
  const auto one = nets.load("LORA");
  const auto two = nets.load("DORA");
  const auto ups = [](std::string_view path) { return path.ends_with(".up") ? 1.0 : 0.0; };
  const auto downs = [](std::string_view path) { return path.ends_with(".down") ? 0.5 : 0.0; };
  const auto bytes = [&](std::int32_t slot, const auto&... adapters) {
    const Guard guard = session.attach<merged>(adapters...);
    return slot_bytes(session, slot);
  };
  const auto up = bytes(0, one, two.scaled(0));
  const auto down = bytes(5, one.scaled(0), two.scaled(0.5));
  const auto down_alone = bytes(5, one.scaled(0.5));
  Guard guard = session.attach<merged>(one.weighted(ups), two.weighted(downs));
  CHECK(slot_bytes(session, 0) == up);
  CHECK(slot_bytes(session, 5) == down);
  guard.switch_to(session.plan<merged>(one.weighted(downs)));
  CHECK(slot_bytes(session, 5) == down_alone);
}
