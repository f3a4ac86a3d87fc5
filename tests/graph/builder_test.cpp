// SPDX-License-Identifier: Apache-2.0
#include "support/files.hpp"
#include "support/nets.hpp"
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

// A user's own layer: y = x * weight, one factor a column, with a temporary that it does not need.
void scale_step(const StepContext& context) {
  const std::span<const float> x = context.inputs[0].values();
  const auto width = static_cast<std::size_t>(context.inputs[0].width());
  std::vector<float> factors(width);
  decode(context.weights[0].dtype, context.weights[0].data, static_cast<std::int64_t>(width), factors.data());
  const std::span<float> kept = context.temporaries[0].values();
  for (std::size_t i = 0; i < x.size(); ++i) kept[i] = x[i] * factors[i % width];
  for (std::size_t i = 0; i < x.size(); ++i) context.output.values()[i] = kept[i];
}

template <fixed_string Name, std::int64_t D>
struct Scale {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(D); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    const std::int32_t weight = builder.weight("weight", {D});
    const WireId kept = builder.temporary(builder.shape(wires[0]));
    const WireId y = builder.step({.op = "Scale",
                                   .run = &scale_step,
                                   .inputs = {wires[0]},
                                   .output = builder.shape(wires[0]),
                                   .temporaries = {kept},
                                   .weights = {weight}});
    builder.leave(mark);
    return y;
  }
};

using Net = Scope<"net", Repeat<"by", 3, Scale<"scale", 4>>>;

// Reads a table of its own and one that all of its kind share, and keeps 3 floats of each token.
void nothing_step(const StepContext&) {}

template <std::int64_t D>
struct Sharing {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(D); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::int32_t before = builder.weight("before", {D});
    const std::int32_t shared = builder.shared_weight("tables.shared", {5, D});
    const std::int32_t after = builder.weight("after", {D});
    return builder.step({.op = "Sharing",
                         .run = &nothing_step,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]),
                         .weights = {before, shared, after},
                         .state = builder.state(3)});
  }
};

template <fixed_string Path, std::int64_t D>
struct Tied {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(D); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step({.op = "Tied",
                         .run = &nothing_step,
                         .inputs = {wires[0]},
                         .output = builder.shape(wires[0]),
                         .weights = {builder.tied_weight(Path.view(), {D})}});
  }
};

std::vector<std::string> all_paths(const Program& program) {
  std::vector<std::string> paths(static_cast<std::size_t>(program.weight_count));
  for (const WeightEntry& entry : program.weights)
    for (std::int32_t copy = 0; copy < entry.copies; ++copy)
      paths[static_cast<std::size_t>(entry.base + copy)] =
          expanded_path(program, entry.path, entry.loop, copy);
  return paths;
}

} // namespace

TEST_CASE("A user's own layer is lowered planned and run like any other") {
  static_assert(GraphOp<Scale<"scale", 4>>);
  static_assert(weights<Net>[0].path == "net.by.*.scale.weight");
  static_assert(slot_count<Net> == 0);
  static_assert(activation_bytes<Net>({.tokens = 16}) == 3 * 16 * 4 * 4); // carry, temporary, result
  const TemporaryFolder folder;
  write_checkpoint<Net>(folder.file("model.safetensors"));
  const auto model = open<Net>(folder.file("model.safetensors"));
  Session session(model);
  const Tensor x({1, 4}, {1, 2, 3, 4});
  const Tensor y = session(x);
  for (std::size_t i = 0; i < 4; ++i) {
    float expected = x.values()[i];
    for (const TensorView& weight : model.weights())
      expected *= reinterpret_cast<const float*>(weight.data)[i];
    CHECK(y.values()[i] == expected);
  }
}

TEST_CASE("Lifetimes cover the loops that a wire is read in") {
  // ids -> words -> hidden; the mask enters the loop from outside and is read in every round.
  const Program& program = program_of<Encoder<8, 2>>();
  const Loop& loop = program.loops[0];
  for (const Wire& wire : program.wires) {
    if (wire.kind == WireKind::input) continue;
    CHECK(wire.first <= wire.last);
  }
  CHECK(program.wires[static_cast<std::size_t>(loop.carries[0])].last >= loop.end);
  CHECK(program.wires[static_cast<std::size_t>(loop.results[0])].first <= loop.begin);
}

TEST_CASE("A shared weight is one, outside all loops and scopes, and the path around it goes on") {
  using Twice =
      Sequential<Scope<"net", Repeat<"by", 3, Scope<"part", Sharing<4>>>>, Scope<"more", Sharing<4>>>;
  const Program& program = program_of<Twice>();
  CHECK(all_paths(program) == std::vector<std::string>{"net.by.0.part.before", "net.by.1.part.before",
                                                       "net.by.2.part.before", "tables.shared",
                                                       "net.by.0.part.after", "net.by.1.part.after",
                                                       "net.by.2.part.after", "more.before", "more.after"});
  static_assert(weights<Twice>[1].copies == 1 && weights<Twice>[1].shape[0] == 5);
  const WeightEntry& shared = program.weights[1];
  CHECK(shared.loop == no_index);
  std::size_t readers = 0;
  for (const Step& step : program.steps)
    if (step.op == "Sharing") readers += step.weights[1] == 1 ? 1 : 0;
  CHECK(readers == 2);
}

TEST_CASE("A tied weight is the earlier layer's and no second one") {
  using TiedNet = Sequential<Scope<"net", Linear<"fc", 4, 4>>, Repeat<"by", 2, Tied<"net.fc.bias", 4>>>;
  static_assert(weight_count<TiedNet> == 2 && weights<TiedNet>.size() == 2);
  const Program& program = program_of<TiedNet>();
  const auto tied = std::ranges::find(program.steps, "Tied", &Step::op);
  REQUIRE(tied != program.steps.end());
  CHECK(tied->weights[0] == 1);
  CHECK(program.text_of(program.weights[1].path) == "net.fc.bias");
}

TEST_CASE("States are numbered over the copies of loops") {
  using SharingNet =
      Sequential<Scope<"one", Sharing<4>>, Repeat<"two", 3, Sharing<4>>, Scope<"three", Sharing<4>>>;
  const Program& program = program_of<SharingNet>();
  CHECK(program.state_count == 5);
  REQUIRE(program.states.size() == 3);
  constexpr std::int32_t bases[] = {0, 1, 4};
  constexpr std::int32_t copies[] = {1, 3, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(program.states[i].width == 3);
    CHECK(program.states[i].base == bases[i]);
    CHECK(program.states[i].copies == copies[i]);
  }
  static_assert(program_of<Sequential<Linear<"fc", 4, 4>>>().states.empty());
  std::vector<std::int32_t> of_steps;
  for (const Step& step : program.steps)
    if (step.op == "Sharing") of_steps.push_back(step.state);
  CHECK(of_steps == std::vector<std::int32_t>{0, 1, 2});
}
