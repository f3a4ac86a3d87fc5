// SPDX-License-Identifier: Apache-2.0
// A program as a digraph in Graphviz's language DOT: loops are clusters, steps with a slot are filled and have a double
// border.
#pragma once

#include <tenon/graph/describe.hpp>
#include <tenon/graph/drawing.hpp>
#include <tenon/graph/wire_bytes.hpp>

#include <string>

namespace tenon {

inline void append_dot_step(std::string& out, const Program& program, const Step& step, std::string& indent) {
  if (step.kind == StepKind::loop_begin) {
    out += concat(indent, "subgraph cluster_", step.loop, " {\n");
    indent += "  ";
    out +=
        concat(indent, "label=\"repeat ", program.loops[static_cast<std::size_t>(step.loop)].count, "\";\n");
  } else if (step.kind == StepKind::loop_end) {
    indent.resize(indent.size() - 2);
    out += concat(indent, "}\n");
  } else {
    const std::string path = dot_escaped(program.text_of(step.path));
    const std::string slot = slot_label(program, step);
    out +=
        concat(indent, "w", step.output, " [label=\"", dot_escaped(step.op), path.empty() ? "" : "\\n", path);
    out += slot.empty() ? "\"];\n" : concat("\\nslot: ", slot, "\", peripheries=2, style=filled];\n");
  }
}

inline void append_dot_wire(std::string& out, const Wire& wire, const Edge& edge,
                            const std::optional<Dims>& dims) {
  out += concat("  w", edge.from, " -> ", edge.kind == EdgeKind::output ? "out" : "w", edge.to, " [label=\"",
                shape_text(wire.shape), "\\n", wire_bytes_text(wire, dims), " bytes\"];\n");
}

TENON_INLINE std::string graphviz(const Program& program, const std::optional<Dims>& dims) {
  std::string out = "digraph net {\n  node [shape=box];\n";
  for (const WireId input : program.inputs)
    out += concat("  w", input, " [label=\"",
                  dot_escaped(program.text_of(program.wires[static_cast<std::size_t>(input)].name)),
                  "\", shape=ellipse];\n");
  std::string indent = "  ";
  for (const Step& step : program.steps) append_dot_step(out, program, step, indent);
  for (std::size_t i = 0; i < program.outputs.size(); ++i)
    out += concat("  out", i, " [label=\"", dot_escaped(output_label(program, program.outputs[i])),
                  "\", shape=ellipse];\n");
  for (const Edge& edge : edges_of(program))
    if (edge.kind == EdgeKind::next_time)
      out += concat("  w", edge.from, " -> w", edge.to, " [label=\"next time\", style=dashed];\n");
    else
      append_dot_wire(out, program.wires[static_cast<std::size_t>(edge.from)], edge, dims);
  return out + "}\n";
}

} // namespace tenon
