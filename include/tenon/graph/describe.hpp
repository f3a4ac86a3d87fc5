// SPDX-License-Identifier: Apache-2.0
// A graph type for people, written from its Program, so it shows what will run: a table of its steps, weights, slots and
// the bytes of each wire; drawings for Mermaid and Graphviz, loops as boxes, slots with a double border. Bytes are
// products of the named axes ("1536 x batch x tokens"), or numbers where a call's dimensions are given; the table then has
// the activation plan as well:
//   std::puts(tn::describe<Net>({.batch = 8, .tokens = 256}).c_str());
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/graph/lower.hpp>

#include <optional>
#include <string>

namespace tenon {

// --- of a program --------------------------------------------------------------------------------------------
// Precondition of all: `dims`, if given, are multiples of what the net divides them by.

/// Counts, then a row for each wire in the order of the steps that make them: op, path, shape, bytes, weight [out, in],
/// and the kinds of adapter that its slot takes. For given `dims` also the workspace's total (`activation_bytes`) and each
/// wire's offset in it; an input has none, it is read where the caller has it. Offsets are multiples of `wire_alignment`;
/// what a loop carries changes places with its result after each time, so in a loop they are those of the first time.
[[nodiscard]] TENON_INLINE std::string describe_table(const Program& program,
                                                      const std::optional<Dims>& dims = {});

/// A Mermaid flowchart: a node for each step, an edge for each wire that one reads, with its shape and bytes.
[[nodiscard]] TENON_INLINE std::string mermaid(const Program& program, const std::optional<Dims>& dims = {});

/// The same drawing in DOT, for Graphviz: `dot -Tsvg`.
[[nodiscard]] TENON_INLINE std::string graphviz(const Program& program, const std::optional<Dims>& dims = {});

/// The table and, after an empty line, the Mermaid flowchart.
[[nodiscard]] TENON_INLINE std::string describe(const Program& program, const std::optional<Dims>& dims = {});

// --- of a type -----------------------------------------------------------------------------------------------

/// The table of `Net` and, after an empty line, its Mermaid flowchart.
template <class Net>
[[nodiscard]] std::string describe() {
  return describe(program_of<Net>());
}
/// The same for these dimensions: bytes as numbers, with the activation plan.
template <class Net>
[[nodiscard]] std::string describe(const Dims& dims) {
  return describe(program_of<Net>(), dims);
}

/// The table of `Net`: steps, shapes, bytes, weights, slots.
template <class Net>
[[nodiscard]] std::string describe_table() {
  return describe_table(program_of<Net>());
}
/// The same for these dimensions: bytes as numbers, with the activation plan.
template <class Net>
[[nodiscard]] std::string describe_table(const Dims& dims) {
  return describe_table(program_of<Net>(), dims);
}

/// `Net` as a Mermaid flowchart.
template <class Net>
[[nodiscard]] std::string mermaid() {
  return mermaid(program_of<Net>());
}
/// The same, bytes for these dimensions.
template <class Net>
[[nodiscard]] std::string mermaid(const Dims& dims) {
  return mermaid(program_of<Net>(), dims);
}

/// `Net` as a DOT digraph.
template <class Net>
[[nodiscard]] std::string graphviz() {
  return graphviz(program_of<Net>());
}
/// The same, bytes for these dimensions.
template <class Net>
[[nodiscard]] std::string graphviz(const Dims& dims) {
  return graphviz(program_of<Net>(), dims);
}

} // namespace tenon

#if TENON_HAS_BODIES
#include <tenon/graph/describe_table.hpp>
#include <tenon/graph/graphviz.hpp>
#include <tenon/graph/mermaid.hpp>

namespace tenon {

TENON_INLINE std::string describe(const Program& program, const std::optional<Dims>& dims) {
  return describe_table(program, dims) + "\n" + mermaid(program, dims);
}

} // namespace tenon
#endif
