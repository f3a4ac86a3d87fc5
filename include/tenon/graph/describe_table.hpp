// SPDX-License-Identifier: Apache-2.0
// The table that `describe` prints: a row for each wire of a program, beside the step that makes it.
#pragma once

#include <tenon/core/text.hpp>
#include <tenon/core/text_table.hpp>
#include <tenon/graph/describe.hpp>
#include <tenon/graph/plan.hpp>
#include <tenon/graph/slot.hpp>
#include <tenon/graph/wire_bytes.hpp>

#include <string>
#include <utility>
#include <vector>

namespace tenon {

/// "batch 8, tokens 256": the values of the axes that stand in a program's wires.
[[nodiscard]] inline std::string dims_text(const Program& program, const Dims& dims) {
  std::array<bool, axis_names.size()> is_named{};
  for (const Wire& wire : program.wires)
    for (int i = 0; i < wire.shape.rank; ++i) {
      const Dim& dim = wire.shape.dims[i];
      for (const Axis axis : {dim.axis, dim.by, dim.plus}) is_named[static_cast<std::size_t>(axis)] = true;
    }
  std::string out;
  for (std::size_t i = 1; i < axis_names.size(); ++i) // 0 is `fixed`
    if (is_named[i])
      out += concat(out.empty() ? "" : ", ", axis_names[i], " ", dims.of(static_cast<Axis>(i)));
  return out;
}

/// Collects the rows.
class TableOfProgram {
 public:
  TableOfProgram(const Program& program, const std::optional<Dims>& dims)
      : program_(program), dims_(dims), plan_(program) {
    if (dims_) workspace_ = plan_buffers(program_, *dims_, plan_.room());
    add_row("op", "path", "output", "bytes", "offset", "weight", "slot");
    add_row("--", "----", "------", "-----", "------", "------", "----");
    for (const WireId input : program_.inputs)
      add_wire("input", program_.text_of(program_.wires[static_cast<std::size_t>(input)].name), input, {},
               {});
    for (const Step& step : program_.steps) add_step(step);
  }

  [[nodiscard]] std::string text() const {
    std::int64_t parameters = 0;
    for (const WeightEntry& weight : program_.weights) parameters += weight.size() * weight.copies;
    std::string out = concat(program_.weight_count, " weights, ", parameters, " parameters, ",
                             program_.slot_count, " adapter slots\n");
    if (dims_) {
      const std::string values = dims_text(program_, *dims_);
      out += concat(values.empty() ? "" : concat("for ", values, ": "), workspace_, " bytes of workspace\n");
    }
    return out + text_table(rows_);
  }

 private:
  void add_row(std::string op, std::string path, std::string output, std::string bytes, std::string offset,
               std::string weight, std::string slot) {
    std::vector<std::string> row{std::move(op), std::move(path), std::move(output), std::move(bytes)};
    if (dims_) row.push_back(std::move(offset));
    row.push_back(std::move(weight));
    row.push_back(std::move(slot));
    rows_.push_back(std::move(row));
  }
  void add_wire(std::string_view op, std::string_view path, WireId id, std::string weight, std::string slot) {
    const Wire& wire = program_.wires[static_cast<std::size_t>(id)];
    add_row(std::string(op), std::string(path), shape_text(wire.shape), wire_bytes_text(wire, dims_),
            wire.kind == WireKind::input ? "" : std::to_string(plan_.offsets[static_cast<std::size_t>(id)]),
            std::move(weight), std::move(slot));
  }
  void add_step(const Step& step) {
    if (step.kind == StepKind::loop_begin) {
      rows_.push_back(
          {concat("repeat ", program_.loops[static_cast<std::size_t>(step.loop)].count, " times")});
    } else if (step.kind == StepKind::loop_end) {
      rows_.push_back({"end of repeat"});
    } else {
      const std::string_view path = program_.text_of(step.path);
      std::string weight;
      if (step.weights[0] != no_index)
        weight = shape_text(program_.weights[static_cast<std::size_t>(step.weights[0])].shape());
      std::string slot;
      if (step.slot != no_index)
        slot = slot_kinds_text(program_.slots[static_cast<std::size_t>(step.slot)].kinds);
      add_wire(step.op, path, step.output, std::move(weight), std::move(slot));
      for (const WireId temporary : step.temporaries)
        if (temporary != no_index) add_wire("temporary", path, temporary, {}, {});
    }
  }

  const Program& program_;
  const std::optional<Dims>& dims_;
  PlanVectors plan_;
  std::int64_t workspace_ = 0;
  std::vector<std::vector<std::string>> rows_{};
};

TENON_INLINE std::string describe_table(const Program& program, const std::optional<Dims>& dims) {
  return TableOfProgram(program, dims).text();
}

} // namespace tenon
