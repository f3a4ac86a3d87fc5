// SPDX-License-Identifier: Apache-2.0
// A model of your own: a residual block as a Graph, repeated, with a layer that Tenon does not have. The type alone
// tells what a checkpoint must hold and what a session will need; a layer's four members are all it takes to write one.
//
// Expected output:
//   12 weights, 708 parameters, 3 adapter slots
//   op              path            output               bytes                weight    slot
//   --              ----            ------               -----                ------    ----
//   input           input           [batch, tokens, 16]  64 x batch x tokens
//   Copy                            [batch, tokens, 16]  64 x batch x tokens
//   repeat 2 times
//   LayerNorm       blocks.*.norm   [batch, tokens, 16]  64 x batch x tokens  [16]
//   Linear          blocks.*.fc     [batch, tokens, 16]  64 x batch x tokens  [16, 16]  any kind
//   Gelu            blocks.*        [batch, tokens, 16]  64 x batch x tokens
//   Scale           blocks.*.scale  [batch, tokens, 16]  64 x batch x tokens  [16]
//   Add             blocks.*        [batch, tokens, 16]  64 x batch x tokens
//   end of repeat
//   Linear          head            [batch, tokens, 4]   16 x batch x tokens  [4, 16]   any kind
//
//   the checkpoint's tensors:
//     blocks.*.norm.weight [16] x 2
//     blocks.*.norm.bias [16] x 2
//     blocks.*.fc.weight [16, 16] x 2
//     blocks.*.fc.bias [16] x 2
//     blocks.*.scale.weight [16] x 2
//     head.weight [4, 16] x 1
//     head.bias [4] x 1
//   activations for 256 tokens: 65536 bytes; a rank-8 adapter in bf16: 1344 bytes
#include <tenon/tenon.hpp>
#include <tenon/weights/convert.hpp>

#include <cstdio>
#include <string>

namespace {

namespace tn = tenon;

// --- a layer: y = x * weight, a factor for each column -----------------------------------------------------------
void scale_step(const tn::StepContext& context) {
  const std::span<const float> x = context.inputs[0].values();
  const tn::TensorView& weight = context.weights[0];
  const auto width = static_cast<std::size_t>(context.inputs[0].width());
  for (std::size_t i = 0; i < x.size(); ++i) {
    float factor = 0; // decoded one by one: the checkpoint may hold f32, f16 or bf16
    tn::decode(weight.dtype,
               weight.data + static_cast<std::int64_t>(i % width) * tn::dtype_bytes(weight.dtype), 1,
               &factor);
    context.output.values()[i] = x[i] * factor;
  }
}

template <tn::fixed_string Name, std::int64_t D>
struct Scale {
  static constexpr std::size_t inputs = 1;
  static constexpr tn::Shape takes(std::size_t) { return tn::Shape::rows_of(D); }
  static constexpr tn::Shape gives(std::span<const tn::Shape> shapes) { return shapes[0]; }
  static constexpr tn::WireId lower(tn::Builder& builder, std::span<const tn::WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    const std::int32_t weight = builder.weight("weight", {D});
    const tn::WireId y = builder.step({.op = "Scale",
                                       .run = &scale_step,
                                       .inputs = {wires[0]},
                                       .output = builder.shape(wires[0]),
                                       .weights = {weight},
                                       .in_place = true});
    builder.leave(mark);
    return y;
  }
};

// --- a net -------------------------------------------------------------------------------------------------------
template <std::int64_t D>
using Block = tn::Graph<
    tn::Inputs<"x">,
    tn::Let<"h",
            tn::Sequential<tn::LayerNorm<"norm", D>, tn::Linear<"fc", D, D>, tn::Gelu, Scale<"scale", D>>,
            "x">,
    tn::Let<"y", tn::Add, "h", "x">, tn::Outputs<"y">>;

using Net = tn::Sequential<tn::Repeat<"blocks", 2, Block<16>>, tn::Linear<"head", 16, 4>>;

static_assert(tn::slot_count<Net> == 3);
static_assert(tn::output_shape<Net> == tn::Shape::of({tn::batch_dim, tn::tokens_dim, tn::fixed(4)}));
constexpr std::int64_t activations = tn::activation_bytes<Net>({.tokens = 256});
constexpr std::int64_t adapter = tn::adapter_bytes<Net, tn::LoraOfRank<8>>(tn::bf16);

} // namespace

int main() {
  std::printf("%s\n", tn::describe_table<Net>().c_str());
  std::printf("the checkpoint's tensors:\n");
  for (const tn::WeightInfo& weight : tn::weights<Net>)
    std::printf("  %s %s x %d\n", std::string(weight.path).c_str(), tn::shape_text(weight.shape).c_str(),
                static_cast<int>(weight.copies));
  std::printf("activations for 256 tokens: %d bytes; a rank-8 adapter in bf16: %d bytes\n",
              static_cast<int>(activations), static_cast<int>(adapter));
}
