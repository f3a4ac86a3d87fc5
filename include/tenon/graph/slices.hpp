// SPDX-License-Identifier: Apache-2.0
// Projections that some models fuse and others keep apart (q, k and v; gate and up; attention and feed-forward): a
// layer says which slices it has, or of which fused layer it is one, and adapters of either form attach to it. Options of
// Linear and JoinedLinear:
//   Linear<"qkv", D, 3 * D, Slices<Slice<"q", D>, Slice<"k", D>, Slice<"v", D>>>      a fused layer
//   Linear<"k", D, D, SliceOf<"qkv", D, 3 * D>>                                       one that others fuse
// and the same along the inputs, InputSlices and InputSliceOf. Names stand beside the layer's own: both `attn.qkv` and
// `attn.q` where the layer is `attn.qkv`.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/program.hpp>

#include <array>
#include <cstdint>

namespace tenon {

/// `Size` rows (or columns) of a fused weight, in order, and the name of the module that they are elsewhere.
template <fixed_string Name, std::int64_t Size>
struct Slice {
  static_assert(Size > 0, "tenon::Slice: a size is a positive number");
  static constexpr std::string_view name = Name.view();
  static constexpr std::int64_t size = Size;
};

template <bool OfInputs, class... Parts>
struct SlicesOption {
  static constexpr std::int64_t total = (Parts::size + ... + 0);
  static constexpr std::int64_t outputs = OfInputs ? 0 : total; ///< that the layer must have; 0: any
  static constexpr std::int64_t inputs = OfInputs ? total : 0;
  static constexpr auto slices = [] {
    std::array<SliceSpec, sizeof...(Parts)> out{};
    std::size_t n = 0;
    std::int64_t first = 0;
    ((out[n++] = {Parts::name, {first, Parts::size, total, false, OfInputs}}, first += Parts::size), ...);
    return out;
  }();
};

/// The layer's outputs are these modules', in order.
template <class... Parts>
struct Slices : SlicesOption<false, Parts...> {};
/// The layer's inputs are.
template <class... Parts>
struct InputSlices : SlicesOption<true, Parts...> {};

template <bool OfInputs, fixed_string Fused, std::int64_t First, std::int64_t Total>
struct SliceOfOption {
  static_assert(First >= 0 && First < Total, "tenon::SliceOf: the slice begins inside the fused layer");
  static constexpr std::int64_t outputs = 0;
  static constexpr std::int64_t inputs = 0;
  static constexpr std::array<SliceSpec, 1> slices{{{Fused.view(), {First, 0, Total, true, OfInputs}}}};
};

/// The layer's outputs are those of `Fused`, of `Total` outputs, from number `First` on.
template <fixed_string Fused, std::int64_t First, std::int64_t Total>
struct SliceOf : SliceOfOption<false, Fused, First, Total> {};
/// The layer's inputs are those of `Fused`, of `Total` inputs, from number `First` on.
template <fixed_string Fused, std::int64_t First, std::int64_t Total>
struct InputSliceOf : SliceOfOption<true, Fused, First, Total> {};

template <std::int64_t Sum, std::int64_t Width>
struct SlicesFillTheLayer {
  static_assert(Sum == Width, "tenon::Slices: the slices must fill the layer's width, in order");
};

/// The slices that a list of options names, of a layer [Out, In].
template <std::int64_t In, std::int64_t Out, class... Options>
struct SlicesOfLayer {
  template <class Option>
  static consteval std::size_t count() {
    if constexpr (requires { Option::slices; }) {
      constexpr std::int64_t outputs = Option::outputs == 0 ? Out : Option::outputs;
      constexpr std::int64_t inputs = Option::inputs == 0 ? In : Option::inputs;
      (void)sizeof(SlicesFillTheLayer<outputs, Out>);
      (void)sizeof(SlicesFillTheLayer<inputs, In>);
      return Option::slices.size();
    } else {
      return 0;
    }
  }
  static constexpr auto list = [] {
    std::array<SliceSpec, (count<Options>() + ... + 0)> out{};
    [[maybe_unused]] std::size_t n = 0;
    [[maybe_unused]] const auto take = [&]<class Option>() {
      if constexpr (requires { Option::slices; })
        for (SliceSpec slice : Option::slices) {
          if (slice.range.size == 0) slice.range.size = slice.range.of_inputs ? In : Out;
          if (slice.range.first + slice.range.size > slice.range.total)
            throw "tenon::SliceOf: the layer must end inside the fused layer";
          out[n++] = slice;
        }
    };
    (take.template operator()<Options>(), ...);
    return out;
  }();
};

} // namespace tenon
