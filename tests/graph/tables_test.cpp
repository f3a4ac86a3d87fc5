// SPDX-License-Identifier: Apache-2.0
#include "support/nets.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

using Net = Encoder<8, 3>;

TEST_CASE("Slots and weights are known at compile time with their paths and shapes") {
  static_assert(slot_count<Net> == 3 * 5);
  static_assert(slots<Net>[0].path == "encoder.layer.*.attention.query");
  static_assert(slots<Net>[3].path == "encoder.layer.*.up");
  static_assert(slots<Net>[3].out == 16 && slots<Net>[3].in == 8 && slots<Net>[3].copies == 3);
  static_assert(slot_accepts(slots<Net>[3].kinds, AdapterKind::lora));
  static_assert(weights<Net>[0].path == "words.weight");
  static_assert(weights<Net>.back().path == "encoder.layer.*.down.weight");
  static_assert(weight_count<Net> == 1 + 3 * (6 + 2 + 2 + 1));
  CHECK(slot_path(program_of<Net>(), 0) == "encoder.layer.0.attention.query");
  CHECK(slot_path(program_of<Net>(), 14) == "encoder.layer.2.down");
}

TEST_CASE("Parameters are counted over all copies") {
  constexpr std::int64_t block = 3 * (8 * 8 + 8) + 2 * 8 + (16 * 8 + 16) + 8 * 16;
  static_assert(parameter_count<Net> == 11 * 8 + 3 * block);
}

TEST_CASE("The output shape keeps the names of dimensions") {
  static_assert(output_shape<Net> == Shape::of({batch_dim, fixed(8)}));
  static_assert(output_shape<Mlp> == Shape::of({batch_dim, tokens_dim, fixed(6)}));
}

TEST_CASE("Depth changes counts but not the size of the program") {
  static_assert(program_of<Encoder<8, 3>>().steps.size() == program_of<Encoder<8, 300>>().steps.size());
  static_assert(slot_count<Encoder<8, 300>> == 1500);
  static_assert(activation_bytes<Encoder<8, 4>>({2, 9}) == activation_bytes<Encoder<8, 400>>({2, 9}));
}

TEST_CASE("Paths of nested repeats have one index for each") {
  const Program& program = program_of<Nested<3, 2>>();
  CHECK(slot_path(program, 0) == "outer.0.mix");
  CHECK(slot_path(program, 2) == "outer.2.mix");
  CHECK(slot_path(program, 3) == "outer.0.inner.0.fc");
  CHECK(slot_path(program, 4) == "outer.0.inner.1.fc");
  CHECK(slot_path(program, 8) == "outer.2.inner.1.fc");
}

TEST_CASE("An adapter of known rank has known bytes") {
  static_assert(adapter_bytes<Mlp, LoraOfRank<4>>(f32) == 4 * 4 * (6 + 10 + 10 + 6));
}

TEST_CASE("A slot is found by its full path also at compile time") {
  static_assert(find_slot(program_of<Net>(), "encoder.layer.2.down") == 14);
  static_assert(find_slot(program_of<Net>(), "encoder.layer.3.down") == -1);
  static_assert(find_slot(program_of<Net>(), "encoder.layer.02.down") == -1);
  static_assert(find_slot(program_of<Net>(), "encoder.layer.2.down.more") == -1);
  static_assert(find_slot(program_of<Net>(), "layer.2.down") == -1);
  static_assert(find_slot(program_of<Nested<3, 2>>(), "outer.2.inner.1.fc") == 8);
}

TEST_CASE("The net of the README is what the README says") {
  using Readme = Scope<
      "encoder",
      Repeat<"layer", 6,
             Graph<Inputs<"x", "mask">, Let<"heads", SelfAttention<"attention.self", 384, 12>, "x", "mask">,
                   Let<"attended", Linear<"attention.output.dense", 384, 384>, "heads">,
                   Let<"y", AddNorm<"attention.output.LayerNorm", 384>, "attended", "x">, Outputs<"y">>>>;
  static_assert(slot_count<Readme> == 24);
  static_assert(slots<Readme>[0].path == "encoder.layer.*.attention.self.query");
  static_assert(activation_bytes<Readme>({.tokens = 256}) <= 3 * MiB);
}
