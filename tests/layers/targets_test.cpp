// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/models/flux.hpp>
#include <tenon/tenon.hpp>

#include <array>
#include <string>
#include <string_view>
#include <vector>

using namespace tenon;

namespace {

using Mlp = Sequential<Linear<"up", 4, 8>, Relu, Linear<"down", 8, 4>>;
using Net = Scope<"model", Sequential<Repeat<"layer", 3, Mlp>, Linear<"head.up", 4, 2>>>;

template <class T>
std::vector<std::string> open_slots() {
  std::vector<std::string> out;
  for (const SlotInfo& slot : slots<T>) out.emplace_back(slot.path);
  return out;
}

template <class T>
int steps_with(StepFunction run) {
  int count = 0;
  for (const Step& step : program_of<T>().steps) count += step.run == run ? 1 : 0;
  return count;
}

} // namespace

TEST_CASE("A pattern fits the end of a path, whole elements only") {
  static_assert(fits_target("model.layer.*.up", "up"));
  static_assert(fits_target("model.layer.*.up", "layer.*.up"));
  static_assert(fits_target("model.layer.*.up", "model.layer.*.up"));
  static_assert(fits_target("model.layer.*.up", "*.up"));
  static_assert(!fits_target("model.layer.*.up", "p"));
  static_assert(!fits_target("model.layer.*.up", "layer.up"));
  static_assert(!fits_target("model.layer.*.up", "a.model.layer.*.up"));
  static_assert(!fits_target("up", "*.up"));
}

TEST_CASE("Only the slots that are wanted stay open") {
  CHECK(open_slots<Targeted<Net, Targets<"up">>>() ==
        std::vector<std::string>{"model.layer.*.up", "model.head.up"});
  CHECK(open_slots<Targeted<Net, Targets<"layer.*.up", "down">>>() ==
        std::vector<std::string>{"model.layer.*.up", "model.layer.*.down"});
  CHECK(open_slots<Targeted<Net, Targets<"up">, Except<"head.up">>>() ==
        std::vector<std::string>{"model.layer.*.up"});
  static_assert(slot_count<Targeted<Net, Targets<"layer.*.up">>> == 3);
  static_assert(weight_count<Targeted<Net, Targets<"layer.*.up">>> == weight_count<Net>);
}

TEST_CASE("Targets of a part do not see what stands around it, and all around a slot must want it") {
  using Part = Targeted<Repeat<"layer", 3, Mlp>, Targets<"*.down", "*.up">>;
  using Whole = Targeted<Scope<"model", Sequential<Part, Linear<"head.up", 4, 2>>>, Targets<"up">>;
  CHECK(open_slots<Whole>() == std::vector<std::string>{"model.layer.*.up", "model.head.up"});
}

TEST_CASE("A closed slot leaves no code and no bytes") {
  using Closed = Targeted<Net, Targets<>>;
  static_assert(slot_count<Closed> == 0);
  static_assert(program_of<Closed>().slots.empty());
  CHECK(steps_with<Closed>(&linear_step<true>) == 0);
  CHECK(steps_with<Closed>(&linear_step<false>) == 3);
  CHECK(steps_with<Targeted<Net, Targets<"up">>>(&linear_step<true>) == 2);
  CHECK(activation_bytes<Closed>({.tokens = 3}) == activation_bytes<Net>({.tokens = 3}));
}

TEST_CASE("Convolutions, embeddings and joined linears close too") {
  using Convolutions = Sequential<Conv2d<"a", 3, 4, 3, Padding<1>>, Conv2d<"b", 4, 4, 1>>;
  static_assert(slot_count<Targeted<Convolutions, Targets<"b">>> == 1);
  using Words = Sequential<Embedding<"words", 9, 4, AnySlot>, Linear<"up", 4, 4>>;
  static_assert(slot_count<Words> == 2);
  static_assert(slot_count<Targeted<Words, Targets<"up">>> == 1);
  static_assert(program_of<Targeted<Words, Targets<"up">>>().steps[0].scratch == nullptr);
}

TEST_CASE("A trainer's default targets of a released model") {
  using Trained = Targeted<models::Flux<models::flux_1>,
                           Targets<"attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj",
                                   "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out", "ff.net.0.proj",
                                   "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2">>;
  static_assert(slot_count<Trained> == 342);
  CHECK(program_of<Trained>().slot_count == 342);
}
