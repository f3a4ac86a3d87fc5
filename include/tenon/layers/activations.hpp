// SPDX-License-Identifier: Apache-2.0
// Element-wise activations, named as in torch.nn: Gelu (exact, by erf), GeluTanh, QuickGelu, Relu, Silu, Tanh. They take
// a wire of any shape and may write over their input, so they cost no buffer where the input ends with them.
#pragma once

#include <tenon/kernels/activations.hpp>
#include <tenon/layers/shape_keeping.hpp>

namespace tenon {

/// A kernel from the input's values to the output's.
using ElementwiseKernel = void (*)(std::span<const float>, std::span<float>);

template <ElementwiseKernel Kernel>
void elementwise_step(const StepContext& context) {
  const std::span<const float> x = context.inputs[0].values();
  const std::span<float> y = context.output.values();
  context.workers.share(std::ssize(x), kernels::lane_count, 20,
                        [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
                          const auto begin = static_cast<std::size_t>(first);
                          const auto size = static_cast<std::size_t>(count);
                          Kernel(x.subspan(begin, size), y.subspan(begin, size));
                        });
}

/// An op that maps each element by itself; `Kernel` must allow its output to be its input.
template <fixed_string Name, ElementwiseKernel Kernel>
struct Elementwise : ShapeKeeping<Name, &elementwise_step<Kernel>> {};

/// x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016, arXiv 1606.08415); BERT's.
struct Gelu : Elementwise<"Gelu", &kernels::gelu> {};
/// Its tanh approximation: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); GPT-2's and T5's.
struct GeluTanh : Elementwise<"GeluTanh", &kernels::gelu_tanh> {};
/// x / (1 + exp(-1.702 x)); CLIP's.
struct QuickGelu : Elementwise<"QuickGelu", &kernels::quick_gelu> {};
/// max(x, 0)
struct Relu : Elementwise<"Relu", &kernels::relu> {};
/// x / (1 + exp(-x))
struct Silu : Elementwise<"Silu", &kernels::silu> {};
struct Tanh : Elementwise<"Tanh", &kernels::tanh> {};

} // namespace tenon
