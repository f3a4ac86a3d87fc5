// SPDX-License-Identifier: Apache-2.0
// LayerNorm<"name", D>: (x - mean) / sqrt(var + eps) * weight + bias over the last dimension (Ba et al. 2016,
// arXiv 1607.06450). AddNorm<"name", D>: the same of the sum of two wires, in one pass. RmsNorm<"name", D>. L2Normalize: x /
// max(|x|, 1e-12).
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/op.hpp>
#include <tenon/kernels/norm.hpp>
#include <tenon/layers/norm_slot.hpp>
#include <tenon/layers/shape_keeping.hpp>

namespace tenon {

/// What keeps a variance from being zero; PyTorch's default is 1e-5, BERT's 1e-12.
struct Epsilon {
  float value = 1e-5f;
};

inline void layer_norm_step(const StepContext& context) {
  const kernels::ConstMatrix x = context.inputs[0].const_matrix();
  const kernels::Matrix y = context.output.matrix();
  kernels::Workers workers = context.workers;
  const NormWeights weights = norm_weights(context, workers);
  workers.share(x.rows, 1, 8 * x.cols, [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
    kernels::layer_norm(x.rows_from(first, count), weights.weight, weights.bias, context.params.reals[0],
                        y.rows_from(first, count));
  });
}

inline void add_norm_step(const StepContext& context) {
  const kernels::ConstMatrix a = context.inputs[0].const_matrix();
  const kernels::ConstMatrix b = context.inputs[1].const_matrix();
  const kernels::Matrix y = context.output.matrix();
  kernels::Workers workers = context.workers;
  const NormWeights weights = norm_weights(context, workers);
  workers.share(a.rows, 1, 10 * a.cols, [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
    kernels::add_layer_norm(a.rows_from(first, count), b.rows_from(first, count), weights.weight,
                            weights.bias, context.params.reals[0], y.rows_from(first, count));
  });
}

inline std::int64_t norm_step_scratch(const StepContext& context) {
  return norm_weights_scratch_bytes(context.weights[0].extent(0), context.has_deltas);
}

/// The shared part: `Inputs` wires of width D, weights `name.weight` and `name.bias` [d].
template <fixed_string Name, std::int64_t D, Epsilon Eps, fixed_string Op, StepFunction Run,
          std::size_t Inputs>
struct Normalization {
  static constexpr std::size_t inputs = Inputs;
  static constexpr bool same_inputs = true;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(D); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    const std::uint32_t kinds = builder.open_kinds(builder.norm_kinds());
    const std::int32_t weight = builder.weight("weight", {D});
    const std::int32_t bias = builder.weight("bias", {D});
    const WireId y = builder.step({.op = Op.view(),
                                   .run = Run,
                                   .scratch = kinds != 0 ? &norm_step_scratch : nullptr,
                                   .inputs = {wires[0], Inputs > 1 ? wires[1] : no_index},
                                   .output = builder.shape(wires[0]),
                                   .weights = {weight, bias},
                                   .slot = builder.slot(kinds, weight, bias),
                                   .params = {.reals = {Eps.value}},
                                   .in_place = static_cast<int>(Inputs)});
    builder.leave(mark);
    return y;
  }
};

template <fixed_string Name, std::int64_t D, Epsilon Eps = Epsilon{}>
struct LayerNorm : Normalization<Name, D, Eps, "LayerNorm", &layer_norm_step, 1> {};

/// LayerNorm of the sum of its two inputs, as BERT's output blocks have it.
template <fixed_string Name, std::int64_t D, Epsilon Eps = Epsilon{1e-12f}>
struct AddNorm : Normalization<Name, D, Eps, "AddNorm", &add_norm_step, 2> {};

/// params.integers[0]: numbers that are normalised together, of which a row has one or several runs.
inline void rms_norm_step(const StepContext& context) {
  const std::int64_t width = context.params.integers[0];
  const std::int64_t rows = context.inputs[0].size() / width;
  const kernels::ConstMatrix x{context.inputs[0].values().data(), rows, width, width};
  const kernels::Matrix y{context.output.values().data(), rows, width, width};
  kernels::Workers workers = context.workers;
  const kernels::WeightVector weight = norm_weights(context, workers).weight;
  workers.share(rows, 1, 6 * width, [&](std::int64_t first, std::int64_t count, kernels::Scratch) {
    kernels::rms_norm(x.rows_from(first, count), weight, static_cast<double>(context.params.reals[0]),
                      y.rows_from(first, count));
  });
}

/// Each of the Width / D runs of the last dimension for itself: an attention's heads, whose weight `name.weight` [d] is
/// the same (Dehghani et al. 2023, arXiv 2302.05442).
template <fixed_string Name, std::int64_t Width, std::int64_t D, Epsilon Eps = Epsilon{1e-6f}>
struct HeadRmsNorm {
  static_assert(D > 0 && Width % D == 0, "tenon::HeadRmsNorm: a whole number of heads");

  static constexpr std::size_t inputs = 1;
  static constexpr Shape takes(std::size_t) { return Shape::rows_of(Width); }
  static constexpr Shape gives(std::span<const Shape> shapes) { return shapes[0]; }
  static constexpr WireId lower(Builder& builder, std::span<const WireId> wires) {
    const std::size_t mark = builder.enter(Name.view());
    const std::uint32_t kinds = builder.open_kinds(builder.norm_kinds());
    const std::int32_t weight = builder.weight("weight", {D});
    const WireId y = builder.step({.op = Width == D ? "RmsNorm" : "HeadRmsNorm",
                                   .run = &rms_norm_step,
                                   .scratch = kinds != 0 ? &norm_step_scratch : nullptr,
                                   .inputs = {wires[0]},
                                   .output = builder.shape(wires[0]),
                                   .weights = {weight},
                                   .slot = builder.slot(kinds, weight),
                                   .params = {.integers = {D}, .reals = {Eps.value}},
                                   .in_place = 1});
    builder.leave(mark);
    return y;
  }
};

/// x / sqrt(mean of x^2 + eps) * weight over the last dimension (Zhang and Sennrich 2019, arXiv 1910.07467), weight
/// `name.weight` [d]; Llama's and T5's.
template <fixed_string Name, std::int64_t D, Epsilon Eps = Epsilon{1e-6f}>
struct RmsNorm : HeadRmsNorm<Name, D, D, Eps> {};

inline void l2_normalize_step(const StepContext& context) {
  kernels::l2_normalize(context.inputs[0].const_matrix(), context.output.matrix());
}

/// Each row divided by its Euclidean length (at least 1e-12), as torch.nn.functional.normalize.
struct L2Normalize : ShapeKeeping<"L2Normalize", &l2_normalize_step> {};

} // namespace tenon
