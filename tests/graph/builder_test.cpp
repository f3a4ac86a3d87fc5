// SPDX-License-Identifier: Apache-2.0
#include "support/files.hpp"
#include "support/nets.hpp"
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>

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
