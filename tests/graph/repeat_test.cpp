// SPDX-License-Identifier: Apache-2.0
#include "support/files.hpp"
#include "support/nets.hpp"
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>

using namespace tenon;
using namespace tenon::test;

namespace {

Tensor ramp_of(std::int64_t rows, std::int64_t cols, float first) {
  Tensor x({rows, cols});
  for (std::size_t i = 0; i < x.values().size(); ++i)
    x.values()[i] = first + 0.5f * std::sin(static_cast<float>(i));
  return x;
}

/// Two wires of different widths, each made from both.
using Cross =
    Graph<Inputs<"a", "b">, Let<"b_as_a", Linear<"down", 6, 4>, "b">, Let<"a_as_b", Linear<"up", 4, 6>, "a">,
          Let<"c_sum", Add, "a", "b_as_a">, Let<"c", Tanh, "c_sum">, Let<"d_sum", Add, "b", "a_as_b">,
          Let<"d", Tanh, "d_sum">, Outputs<"c", "d">>;

/// What a block of two wires (and a side input) gives `Count` times, each time opened by itself.
template <class Block, class... Side>
std::array<Tensor, 2> by_hand(const std::string& file, const std::string& prefix, std::int64_t first,
                              std::int64_t count, Tensor a, Tensor b, const Side&... side) {
  for (std::int64_t i = first; i < first + count; ++i) {
    const auto block = open<Block>(file, {.prefix = prefix + std::to_string(i) + "."});
    const auto [c, d] = Session(block)(a, b, side...);
    a = c;
    b = d;
  }
  return {a, b};
}

template <class Block, std::int64_t Count, std::int64_t WidthOfB, std::int64_t First = 0, class... Side>
void check_by_hand(const Side&... side) {
  CAPTURE(Count);
  using Net = Repeat<"layer", Count, Block, First>;
  const TemporaryFolder folder;
  write_checkpoint<Net>(folder.file("m.safetensors"));
  const auto model = open<Net>(folder.file("m.safetensors"));
  const Tensor a = ramp_of(3, 4, 0.1f);
  const Tensor b = ramp_of(3, WidthOfB, -0.3f);
  const auto expected = by_hand<Block>(folder.file("m.safetensors"), "layer.", First, Count, a, b, side...);
  Session session(model);
  const auto got = session(a, b, side...);
  CHECK(got == expected);
  CHECK(session(a, b, side...) == expected); // buffers are where they were
}

} // namespace

TEST_CASE("A repeat is one loop whose buffers change places") {
  const Program& program = program_of<Repeat<"layer", 5, Sequential<Linear<"fc", 6, 6>, Tanh>>>();
  REQUIRE(program.loops.size() == 1);
  const Loop& loop = program.loops[0];
  CHECK(loop.count == 5);
  CHECK(loop.carries[0] != loop.results[0]);
  CHECK(program.outputs[0] ==
        loop.results[0]); // after an odd number of rounds the result is where it was made
  CHECK(program_of<Repeat<"layer", 4, Sequential<Linear<"fc", 6, 6>, Tanh>>>().outputs[0] ==
        program_of<Repeat<"layer", 4, Sequential<Linear<"fc", 6, 6>, Tanh>>>().loops[0].carries[0]);
}

TEST_CASE("Loops in loops multiply their copies") {
  const Program& program = program_of<Nested<3, 2>>();
  REQUIRE(program.loops.size() == 2);
  CHECK(program.loops[0].copies == 3);
  CHECK(program.loops[1].copies == 6);
  CHECK(program.loops[1].depth == 1);
  CHECK(program.slot_count == 9);
}

TEST_CASE("Several wires are carried, any number of times") {
  check_by_hand<Cross, 1, 6>();
  check_by_hand<Cross, 2, 6>();
  check_by_hand<Cross, 3, 6>();
  check_by_hand<Cross, 4, 6>();
  check_by_hand<Cross, 5, 6, 7>();
  constexpr const Program& program = program_of<Repeat<"layer", 3, Cross>>();
  static_assert(program.loops.size() == 1 && program.outputs.size() == 2);
  static_assert(program.loops[0].carries[1] != no_index && program.loops[0].carries[2] == no_index);
  static_assert(program.outputs[0] == program.loops[0].results[0]);
  static_assert(program.outputs[1] == program.loops[0].results[1]);
  static_assert(program_of<Repeat<"layer", 4, Cross>>().outputs[1] ==
                program_of<Repeat<"layer", 4, Cross>>().loops[0].carries[1]);
}

TEST_CASE("Further inputs are the same each time beside several carried wires") {
  using Block = Graph<Inputs<"a", "b", "side">, Let<"b_as_a", Linear<"down", 6, 4>, "b">,
                      Let<"h", Linear<"fc", 4, 4>, "a">, Let<"c_sum", Add, "h", "b_as_a">,
                      Let<"c", Tanh, "c_sum">, Let<"seen", Linear<"see", 2, 6>, "side">,
                      Let<"d_sum", Add, "b", "seen">, Let<"d", Tanh, "d_sum">, Outputs<"c", "d">>;
  const Tensor side = ramp_of(3, 2, 0.7f);
  check_by_hand<Block, 2, 6>(side);
  check_by_hand<Block, 3, 6>(side);
}

TEST_CASE("A carried wire may pass through unchanged") {
  using KeepsSecond =
      Graph<Inputs<"a", "kept">, Let<"h", Linear<"fc", 4, 4>, "a">, Let<"k", Linear<"see", 4, 4>, "kept">,
            Let<"c_sum", Add, "h", "k">, Let<"c", Tanh, "c_sum">, Outputs<"c", "kept">>;
  using KeepsFirst =
      Graph<Inputs<"kept", "b">, Let<"h", Linear<"fc", 4, 4>, "b">, Let<"k", Linear<"see", 4, 4>, "kept">,
            Let<"d_sum", Add, "h", "k">, Let<"d", Tanh, "d_sum">, Outputs<"kept", "d">>;
  check_by_hand<KeepsSecond, 1, 4>();
  check_by_hand<KeepsSecond, 2, 4>();
  check_by_hand<KeepsSecond, 3, 4>();
  check_by_hand<KeepsFirst, 1, 4>();
  check_by_hand<KeepsFirst, 2, 4>();
  check_by_hand<KeepsFirst, 3, 4>();
}

TEST_CASE("Carried wires may start from one wire and be read again after the loop") {
  using Turn =
      Graph<Inputs<"a", "b">, Let<"h", Linear<"fc", 4, 4>, "b">, Let<"c_sum", Add, "a", "h">,
            Let<"c", Tanh, "c_sum">, Let<"d", Sequential<Linear<"out", 4, 4>, Tanh>, "a">, Outputs<"c", "d">>;
  const auto check = []<std::int64_t Count>() {
    using Net = Graph<Inputs<"x">, Let<"h", Linear<"in", 4, 4>, "x">,
                      LetAll<Outputs<"u", "v">, Repeat<"layer", Count, Turn>, "h", "h">,
                      Let<"w", Linear<"after", 4, 4>, "u">, Let<"one", Add, "w", "v">,
                      Let<"two", Add, "one", "u">, Let<"y", Add, "two", "h">, Outputs<"y">>;
    CAPTURE(Count);
    const TemporaryFolder folder;
    const std::string file = folder.file("m.safetensors");
    write_checkpoint<Net>(file);
    const auto model = open<Net>(file);
    const auto in = open<Linear<"in", 4, 4>>(file);
    const auto after = open<Linear<"after", 4, 4>>(file);
    const Tensor x = ramp_of(3, 4, 0.1f);
    const Tensor h = Session(in)(x);
    const auto [u, v] = by_hand<Turn>(file, "layer.", 0, Count, h, h);
    const Tensor w = Session(after)(u);
    Session session(model);
    const Tensor y = session(x);
    for (std::size_t i = 0; i < y.values().size(); ++i)
      CHECK(y.values()[i] == w.values()[i] + v.values()[i] + u.values()[i] + h.values()[i]);
  };
  check.operator()<1>();
  check.operator()<2>();
  check.operator()<3>();
}

TEST_CASE("Loops of several wires within loops of several") {
  using Inner = Graph<Inputs<"a", "b">, LetAll<Outputs<"c", "d">, Repeat<"inner", 2, Cross, 1>, "a", "b">,
                      Let<"e", Linear<"mix", 4, 4>, "c">, Outputs<"e", "d">>;
  const auto check = []<std::int64_t Count>() {
    using Net = Repeat<"outer", Count, Inner>;
    CAPTURE(Count);
    const TemporaryFolder folder;
    const std::string file = folder.file("m.safetensors");
    write_checkpoint<Net>(file);
    const auto model = open<Net>(file);
    Tensor a = ramp_of(3, 4, 0.1f);
    Tensor b = ramp_of(3, 6, -0.3f);
    Session session(model);
    const auto got = session(a, b);
    for (std::int64_t o = 0; o < Count; ++o) {
      const std::string prefix = "outer." + std::to_string(o) + ".";
      const auto [c, d] = by_hand<Cross>(file, prefix + "inner.", 1, 2, a, b);
      const auto mix = open<Linear<"mix", 4, 4>>(file, {.prefix = prefix});
      a = Session(mix)(c);
      b = d;
    }
    CHECK(got[0] == a);
    CHECK(got[1] == b);
  };
  check.operator()<2>();
  check.operator()<3>();
}

TEST_CASE("Two repeats may number one list") {
  using Net = Sequential<Repeat<"layer", 3, Sequential<Linear<"fc", 6, 6>, Tanh>>,
                         Repeat<"layer", 2, Sequential<Linear<"fc", 6, 6>, Relu>, 3>>;
  constexpr const Program& program = program_of<Net>();
  static_assert(slot_count<Net> == 5 && weight_count<Net> == 10);
  static_assert(program.loops[1].first == 3 && program.loops[0].first == 0);
  static_assert(find_slot(program, "layer.2.fc") == 2);
  static_assert(find_slot(program, "layer.3.fc") == 3);
  static_assert(find_slot(program, "layer.4.fc") == 4);
  static_assert(find_slot(program, "layer.5.fc") == -1 && find_slot(program, "layer.03.fc") == -1);
  for (std::int64_t i = 0; i < 5; ++i) CHECK(slot_path(program, i) == "layer." + std::to_string(i) + ".fc");

  const TemporaryFolder folder;
  const std::string file = folder.file("m.safetensors");
  write_checkpoint<Net>(file);
  const auto model = open<Net>(file);
  CHECK(model.unused_names().empty());
  Tensor x = ramp_of(3, 6, 0.1f);
  Session session(model);
  const Tensor y = session(x);
  for (int i = 0; i < 5; ++i) {
    const auto fc = open<Linear<"fc", 6, 6>>(file, {.prefix = "layer." + std::to_string(i) + "."});
    x = Session(fc)(x);
    for (float& v : x.values()) v = i < 3 ? v : std::max(v, 0.0f);
    if (i < 3) kernels::tanh(x.values(), x.values());
  }
  CHECK(y == x);
}

TEST_CASE("Each full path of a slot under loops that do not begin at zero is found again") {
  using Net = Repeat<"outer", 2, Repeat<"inner", 3, Linear<"fc", 6, 6>, 9>, 4>;
  constexpr const Program& program = program_of<Net>();
  static_assert(slot_count<Net> == 6);
  CHECK(slot_path(program, 0) == "outer.4.inner.9.fc");
  CHECK(slot_path(program, 2) == "outer.4.inner.11.fc");
  CHECK(slot_path(program, 5) == "outer.5.inner.11.fc");
  for (std::int32_t i = 0; i < 6; ++i) CHECK(find_slot(program, slot_path(program, i)) == i);
  for (const char* path :
       {"outer.3.inner.9.fc", "outer.6.inner.9.fc", "outer.4.inner.8.fc", "outer.4.inner.12.fc",
        "outer.4.inner.09.fc", "outer.4.inner..fc", "outer.4.inner.9.f"})
    CHECK(find_slot(program, path) == -1);
  const SlotEntry& slot = program.slots[0];
  static_assert(copy_named(program, program.slots[0].path, program.slots[0].loop, "outer.5.inner.9.fc") == 3);
  CHECK(expanded_path(program, slot.path, slot.loop, 3) == "outer.5.inner.9.fc");
}

namespace {

/// Fails at its n-th run, counted down from `left`; -1: never.
inline int fuse_left = -1;
inline void fuse_step(const StepContext& context) {
  if (fuse_left >= 0 && fuse_left-- == 0) throw error(ErrorCode::bad_argument, "fuse");
  std::ranges::copy(context.inputs[0].values(), context.output.values().begin());
}
struct Fuse {
  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::any(); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    return builder.step(
        {.op = "Fuse", .run = &fuse_step, .inputs = {wires[0]}, .output = builder.shape(wires[0])});
  }
};

template <std::int64_t N>
using WithFuse =
    Graph<Inputs<"x">, Let<"r", Repeat<"layer", N, Sequential<Linear<"fc", 4, 4>, Fuse, Tanh>>, "x">,
          Let<"z", Linear<"z", 4, 4>, "r">, Let<"u", Tanh, "z">, Let<"y", Add, "u", "r">, Outputs<"y">>;

/// Gives a wire from outside as what it carries.
using GivesSide = Graph<Inputs<"a", "b", "side">, Let<"h", Linear<"fc", 4, 4>, "a">,
                        Let<"k", Linear<"see", 4, 4>, "b">, Let<"s", Add, "h", "k">, Let<"c", Tanh, "s">,
                        Let<"w", Linear<"w", 4, 4>, "side">, Let<"d", Add, "c", "w">, Outputs<"d", "side">>;

Tensor waves(float phase) {
  Tensor x({3, 4});
  for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] = std::sin(phase + static_cast<float>(i));
  return x;
}

} // namespace

TEST_CASE("After an exception in any round of a loop the next pass is right") {
  const auto check = []<std::int64_t N>() {
    const TemporaryFolder folder;
    write_checkpoint<WithFuse<N>>(folder.file("m.safetensors"));
    const auto model = open<WithFuse<N>>(folder.file("m.safetensors"));
    Session session(model);
    const Tensor x = waves(0.1f);
    fuse_left = -1;
    const Tensor y = session(x);
    for (int at = 0; at < N; ++at) {
      fuse_left = at;
      CHECK_THROWS_AS((void)session(x), error);
      fuse_left = -1;
      CHECK(session(x) == y);
    }
  };
  check.operator()<2>();
  check.operator()<3>();
  check.operator()<4>();
}

TEST_CASE("A block may give a wire from outside as what it carries") {
  const auto check = []<std::int64_t N>() {
    using Net = Repeat<"layer", N, GivesSide>;
    const TemporaryFolder folder;
    write_checkpoint<Net>(folder.file("m.safetensors"));
    const auto model = open<Net>(folder.file("m.safetensors"));
    Session session(model);
    Tensor a = waves(0.1f);
    Tensor b = waves(2.3f);
    const Tensor side = waves(4.7f);
    const auto got = session(a, b, side);
    for (std::int64_t i = 0; i < N; ++i) {
      const auto block =
          open<GivesSide>(folder.file("m.safetensors"), {.prefix = "layer." + std::to_string(i) + "."});
      auto [next, carried] = Session(block)(a, b, side);
      a = std::move(next);
      b = std::move(carried);
    }
    CHECK(got[0] == a);
    CHECK(got[1] == b);
  };
  check.operator()<1>();
  check.operator()<2>();
  check.operator()<3>();
}
