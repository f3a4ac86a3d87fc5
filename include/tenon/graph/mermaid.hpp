// SPDX-License-Identifier: Apache-2.0
// A program as a Mermaid flowchart: loops are subgraphs, steps with a slot have a double border.
#pragma once

#include <tenon/graph/describe.hpp>
#include <tenon/graph/drawing.hpp>
#include <tenon/graph/wire_bytes.hpp>

#include <string>

namespace tenon {

inline void append_mermaid_step(std::string& out, const Program& program, const Step& step) {
  if (step.kind == StepKind::loop_begin) {
    out += concat("  subgraph loop", step.loop, " [\"repeat ",
                  program.loops[static_cast<std::size_t>(step.loop)].count, "\"]\n");
  } else if (step.kind == StepKind::loop_end) {
    out += "  end\n";
  } else {
    const std::string path = mermaid_escaped(program.text_of(step.path));
    const std::string slot = slot_label(program, step);
    out += concat("  w", step.output, slot.empty() ? "[\"" : "[[\"", mermaid_escaped(step.op),
                  path.empty() ? "" : " ", path);
    out += slot.empty() ? "\"]\n" : concat(" (slot: ", slot, ")\"]]\n");
  }
}

inline void append_mermaid_wire(std::string& out, const Wire& wire, const Edge& edge,
                                const std::optional<Dims>& dims) {
  out += concat("  w", edge.from, " -->|\"", mermaid_escaped(shape_text(wire.shape)), "<br>",
                mermaid_escaped(wire_bytes_text(wire, dims)), " bytes\"| ",
                edge.kind == EdgeKind::output ? "out" : "w", edge.to, "\n");
}

TENON_INLINE std::string mermaid(const Program& program, const std::optional<Dims>& dims) {
  std::string out = "flowchart TD\n";
  for (const WireId input : program.inputs)
    out += concat("  w", input, "([\"",
                  mermaid_escaped(program.text_of(program.wires[static_cast<std::size_t>(input)].name)),
                  "\"])\n");
  for (const Step& step : program.steps) append_mermaid_step(out, program, step);
  for (std::size_t i = 0; i < program.outputs.size(); ++i)
    out += concat("  out", i, "([\"", mermaid_escaped(output_label(program, program.outputs[i])), "\"])\n");
  for (const Edge& edge : edges_of(program))
    if (edge.kind == EdgeKind::next_time)
      out += concat("  w", edge.from, " -.->|\"next time\"| w", edge.to, "\n");
    else
      append_mermaid_wire(out, program.wires[static_cast<std::size_t>(edge.from)], edge, dims);
  return out;
}

} // namespace tenon
