// SPDX-License-Identifier: Apache-2.0
// A graph type for people: describe<Net>() is a table of its steps, weights, slots and sizes, followed by a
// Mermaid drawing of the program, loops as boxes, slots marked. Written from the Program, so it shows what
// will run.
#pragma once

#include <tenon/core/text.hpp>
#include <tenon/graph/tables.hpp>

#include <string>

namespace tenon {

/// Writes the parts of a description; each member appends to `out`.
class Describer {
 public:
  explicit Describer(const Program& program) : program_(program) {}

  void table(std::string& out) const {
    row(out, "op", "path", "output", "weight", "slot");
    row(out, "--", "----", "------", "------", "----");
    for (const Step& step : program_.steps) {
      if (step.kind == StepKind::loop_begin) {
        out += concat("repeat ", loop_of(step).count, " times\n");
      } else if (step.kind == StepKind::loop_end) {
        out += "end of repeat\n";
      } else {
        row(out, step.op, program_.text_of(step.path), shape_text(wire(step.output).shape), weight_of(step),
            slot_of(step));
      }
    }
  }

  void mermaid(std::string& out) const {
    out += "flowchart TD\n";
    for (const WireId input : program_.inputs)
      out += concat("  w", input, "([", program_.text_of(wire(input).name), " ",
                    shape_text(wire(input).shape), "])\n");
    for (std::size_t s = 0; s < program_.steps.size(); ++s) {
      const Step& step = program_.steps[s];
      if (step.kind == StepKind::loop_begin)
        out += concat("  subgraph loop", step.loop, " [repeat ", loop_of(step).count, "]\n");
      if (step.kind == StepKind::loop_end) out += "  end\n";
      if (step.kind != StepKind::compute) continue;
      const std::string_view path = program_.text_of(step.path);
      out += concat("  w", step.output, "[\"", step.op, path.empty() ? "" : concat(" ", path),
                    step.slot == no_index ? "" : concat(" (slot: ", slot_of(step), ")"), "\"]\n");
      for (const WireId input : step.inputs)
        if (input != no_index) out += concat("  w", input, " --> w", step.output, "\n");
    }
    for (std::size_t i = 0; i < program_.outputs.size(); ++i)
      out += concat("  w", program_.outputs[i], " --> out", i, "([output ",
                    shape_text(wire(program_.outputs[i]).shape), "])\n");
  }

 private:
  [[nodiscard]] const Wire& wire(WireId id) const { return program_.wires[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const Loop& loop_of(const Step& step) const {
    return program_.loops[static_cast<std::size_t>(step.loop)];
  }
  [[nodiscard]] std::string weight_of(const Step& step) const {
    return step.weights[0] == no_index
               ? std::string()
               : shape_text(program_.weights[static_cast<std::size_t>(step.weights[0])].shape());
  }
  [[nodiscard]] std::string slot_of(const Step& step) const {
    return step.slot == no_index ? std::string()
                                 : slot_kinds_text(program_.slots[static_cast<std::size_t>(step.slot)].kinds);
  }
  static void row(std::string& out, std::string_view op, std::string_view path, std::string_view output,
                  std::string_view weight, std::string_view slot) {
    std::string line;
    const auto cell = [&line](std::string_view text, std::size_t width) {
      line += text;
      line.append(text.size() < width ? width - text.size() : 1, ' ');
    };
    cell(op, 17);
    cell(path, 46);
    cell(output, 26);
    cell(weight, 15);
    line += slot;
    out += concat(std::string_view(line).substr(0, line.find_last_not_of(' ') + 1), "\n");
  }

  const Program& program_;
};

/// A table of `Net` and, after an empty line, its Mermaid source.
template <class Net>
[[nodiscard]] std::string describe() {
  const Program& program = program_of<Net>();
  const Describer describer(program);
  std::string out = concat(program.weight_count, " weights, ", parameter_count<Net>, " parameters, ",
                           program.slot_count, " adapter slots\n");
  describer.table(out);
  out += '\n';
  describer.mermaid(out);
  return out;
}

} // namespace tenon
