// SPDX-License-Identifier: Apache-2.0
// A guard's strength changed while it is attached: what a new guard of that strength gives, for every kind and mode.
#include "session/fixture.hpp"
#include "support/kind_files.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Repeat<"layer", 2, Mlp>;

struct Case : TemporaryFolder {
  Ledger ledger{};
  Model<Net> model;
  Adapter<Net> adapter;
  Session<Net> session;
  Tensor x = ramp({5, 6});

  explicit Case(std::string_view kind)
      : model((write_checkpoint<Net>(file("model.safetensors")),
               open<Net>(file("model.safetensors"), {.ledger = &ledger, .own_weights = true}))),
        adapter(load_adapter<Net>(write_kind<Net>(file("adapter"), kind), {.ledger = &ledger})),
        session(model) {}
};

} // namespace

TEST_CASE("A rescaled guard is a new guard of the strengths multiplied, for every kind and mode, and holds "
          "as much") {
  for (const std::string_view kind : kind_names)
    in_each_mode([kind]<class Mode>(Mode) {
      CAPTURE(std::string(kind));
      CAPTURE(std::string(attach_mode_name(Mode::mode)));
      Case c(kind);
      const Tensor base = c.session(c.x);
      const auto expected = [&](double strength) {
        const Guard guard = c.session.attach<Mode>(c.adapter, strength);
        return c.session(c.x);
      };
      const Tensor twice = expected(2);
      const Tensor negative = expected(-0.5);
      {
        Guard guard = c.session.attach<Mode>(c.adapter, 0.5);
        const BytesByCategory held = c.ledger.current();
        const std::uint64_t generation = c.session.adapter_generation();
        guard.rescale(4);
        CHECK(c.session(c.x) == twice);
        guard.rescale(-0.25);
        CHECK(c.session(c.x) == negative);
        CHECK(c.ledger.current() == held);
        CHECK(c.session.adapter_generation() > generation); // a cache of before is stale
      }
      CHECK(c.session(c.x) == base);
    });
}

TEST_CASE("A released guard has no strength to change") {
  Case c("LORA");
  Guard guard = c.session.attach(c.adapter);
  guard.release();
  CHECK_THROWS_WITH_AS(guard.rescale(2), "rescale: this guard was released; attach anew", error);
}
