// SPDX-License-Identifier: Apache-2.0
// What a program with a mistake in its types is told: one sentence, with both culprits as template arguments
// and one direct comparison, so that compilers print both numbers. A node derives from the mandates of its
// first fault only.
#pragma once

#include <tenon/core/fixed_string.hpp>
#include <tenon/graph/op.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace tenon {

/// A name computed in constant evaluation (a wire, a path), to be printed as a template argument.
struct NameText {
  char text[96]{};

  constexpr NameText() = default;
  constexpr explicit NameText(std::string_view name) {
    for (std::size_t i = 0; i < name.size() && i + 1 < sizeof(text); ++i) text[i] = name[i];
  }
  [[nodiscard]] constexpr bool empty() const { return text[0] == '\0'; }
  [[nodiscard]] constexpr std::size_t size() const {
    std::size_t n = 0;
    while (text[n] != '\0') ++n;
    return n;
  }
};

/// The name without its padding: clang prints an array of characters as text only if no zero stands in it.
template <NameText Name>
[[nodiscard]] consteval auto exact_name() {
  char text[Name.size() + 1]{};
  // not `<`: nvcc warns where the size is 0
  for (std::size_t i = 0; i != Name.size(); ++i) text[i] = Name.text[i];
  return fixed_string<Name.size() + 1>(text);
}

/// The I-th type of a pack, without recursion.
template <std::size_t I, class T>
struct IndexedType {
  using type = T;
};
template <class Indices, class... Ts>
struct IndexedTypes;
template <std::size_t... I, class... Ts>
struct IndexedTypes<std::index_sequence<I...>, Ts...> : IndexedType<I, Ts>... {};
template <std::size_t I, class T>
IndexedType<I, T> indexed_type(const IndexedType<I, T>&);
template <std::size_t I, class... Ts>
using nth_type =
    typename decltype(indexed_type<I>(IndexedTypes<std::make_index_sequence<sizeof...(Ts)>, Ts...>{}))::type;

template <class Op>
struct IsGraphOp {
  static_assert(GraphOp<Op>,
                "tenon: this type is not an op of a graph; it needs inputs, takes, gives and lower");
};

/// `Gives` is the width that arrives (from `Producer`), `Takes` what `Consumer` reads.
template <class Producer, class Consumer, std::int64_t Gives, std::int64_t Takes>
struct WidthsAgree {
  static_assert(Gives == Takes, "tenon: the width of a wire must equal the width that its reader takes");
};
template <class Producer, class Consumer, DType Gives, DType Takes>
struct ElementTypesAgree {
  static_assert(Gives == Takes, "tenon: the element type of a wire must be the one that its reader takes");
};
template <class Producer, class Consumer, Shape Gives, Shape Takes>
struct DimensionsAgree {
  static_assert(Gives == Takes, "tenon: the dimensions of a wire must be the ones that its reader takes");
};
template <class Producer, class Consumer, Shape Gives, Shape First>
struct InputsAgree {
  static_assert(Gives == First, "tenon: the inputs of this op must all have one shape");
};

/// Several mandates may be silent at one node; the tag keeps them different bases.
template <class Tag>
struct NothingToMandate {};

/// Names a mandate without instantiating it; deriving from it does.
template <class Mandate>
struct MandateName {
  using type = Mandate;
};

/// The sentence that belongs to a misfit; a node derives from it.
template <class Producer, class Consumer, MisfitAt At>
[[nodiscard]] consteval auto fit_mandate() {
  if constexpr (At.kind == Misfit::width)
    return MandateName<WidthsAgree<Producer, Consumer, At.gives.width(), At.takes.width()>>{};
  else if constexpr (At.kind == Misfit::dtype)
    return MandateName<ElementTypesAgree<Producer, Consumer, At.gives.dtype, At.takes.dtype>>{};
  else if constexpr (At.kind == Misfit::rank)
    return MandateName<DimensionsAgree<Producer, Consumer, At.gives, At.takes>>{};
  else if constexpr (At.kind == Misfit::unequal)
    return MandateName<InputsAgree<Producer, Consumer, At.gives, At.takes>>{};
  else
    return MandateName<NothingToMandate<Misfit>>{};
}

} // namespace tenon
