// SPDX-License-Identifier: Apache-2.0
// What all drawings of a program share: its edges, the words at its nodes, and how they are quoted. A node is named after
// the wire that its step gives. Drawings write all nodes before all edges: Mermaid and Graphviz take whatever is named
// inside a loop's box, in an edge too, into the box.
#pragma once

#include <tenon/core/text.hpp>
#include <tenon/graph/program.hpp>
#include <tenon/graph/slot.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

enum class EdgeKind : std::uint8_t { read, next_time, output };

/// `to` is the wire of the reading step, of what a loop carries (`next_time`), or an index of the outputs (`output`).
struct Edge {
  EdgeKind kind;
  WireId from;
  std::int32_t to;
};

/// The wire whose node gives what step `reader` reads as `wire`. After a loop, that is its result: which of the two
/// buffers that changed places has it depends on the count, and is no matter for a drawing.
[[nodiscard]] inline WireId drawn_source(const Program& program, WireId wire, std::int32_t reader) noexcept {
  for (const Loop& loop : program.loops) // outer ones stand before inner ones, whose result theirs may be
    for (std::size_t i = 0; i < max_loop_carries; ++i)
      if (loop.carries[i] == wire && loop.end < reader) {
        wire = loop.results[i];
        break;
      }
  return wire;
}

[[nodiscard]] inline std::vector<Edge> edges_of(const Program& program) {
  std::vector<Edge> edges;
  const auto count = static_cast<std::int32_t>(program.steps.size());
  for (std::int32_t s = 0; s < count; ++s) {
    const Step& step = program.steps[static_cast<std::size_t>(s)];
    if (step.kind == StepKind::compute)
      for (const WireId input : step.inputs)
        if (input != no_index)
          edges.push_back({EdgeKind::read, drawn_source(program, input, s), step.output});
    if (step.kind != StepKind::loop_end) continue;
    const Loop& loop = program.loops[static_cast<std::size_t>(step.loop)];
    for (std::size_t i = 0; loop.count > 1 && i < max_loop_carries; ++i)
      if (loop.carries[i] != no_index)
        edges.push_back({EdgeKind::next_time, drawn_source(program, loop.results[i], s), loop.carries[i]});
  }
  for (std::size_t i = 0; i < program.outputs.size(); ++i)
    edges.push_back(
        {EdgeKind::output, drawn_source(program, program.outputs[i], count), static_cast<std::int32_t>(i)});
  return edges;
}

/// "output", with the wire's name where it has one.
[[nodiscard]] inline std::string output_label(const Program& program, WireId output) {
  const std::string_view name = program.text_of(program.wires[static_cast<std::size_t>(output)].name);
  return concat("output", name.empty() ? "" : " ", name);
}

/// "LoRA, DoRA": the kinds that a step's slot takes; nothing for a step without a slot.
[[nodiscard]] inline std::string slot_label(const Program& program, const Step& step) {
  return step.slot == no_index ? std::string()
                               : slot_kinds_text(program.slots[static_cast<std::size_t>(step.slot)].kinds);
}

/// `text` as it stands inside a quoted label of Mermaid: entities for what would end it, begin an entity or a tag, or be
/// read as Markdown, as Mermaid 11 does in every label.
[[nodiscard]] inline std::string mermaid_escaped(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (std::string_view("\"#<*`").find(c) != std::string_view::npos)
      out += concat("#", static_cast<int>(c), ";");
    else
      out += c;
  return out;
}

/// `text` as it stands inside a quoted DOT string.
[[nodiscard]] inline std::string dot_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

} // namespace tenon
