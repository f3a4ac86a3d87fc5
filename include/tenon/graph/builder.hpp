// SPDX-License-Identifier: Apache-2.0
// Collects what ops append while a graph type is lowered, in constant evaluation. Ops name weights relative
// to the current path; the builder composes the full names and numbers loop copies. Cost: linear in steps, wires
// and characters; run twice a net (once for the sizes, once for the values).
#pragma once

#include <tenon/graph/lifetimes.hpp>
#include <tenon/graph/net_path.hpp>
#include <tenon/graph/program_tables.hpp>
#include <tenon/graph/target_filter.hpp>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

class Builder {
 public:
  /// Counts only.
  constexpr Builder() = default;
  /// Writes. Precondition: the tables have the sizes that a counting run of the same net gave.
  constexpr explicit Builder(const ProgramTables& tables) : tables_(tables), writes_(true) {}

  [[nodiscard]] constexpr const ProgramSizes& sizes() const { return n_; }

  // --- wires -------------------------------------------------------------------------------------
  [[nodiscard]] constexpr WireId input(const Shape& shape, std::string_view name) {
    const WireId id = add_wire(shape, WireKind::input, no_index);
    name_wire(id, name);
    if (writes_) tables_.inputs[n_.inputs] = id;
    ++n_.inputs;
    return id;
  }
  [[nodiscard]] constexpr Shape shape(WireId wire) const { return shapes_[at(wire)]; }
  /// For `describe`: what the graph calls this wire. The last, outermost name stays.
  constexpr void name_wire(WireId wire, std::string_view name) {
    const TextRef text = append_text(name);
    if (writes_) tables_.wires[wire].name = text;
  }
  /// Declares a wire as an output of the net.
  constexpr void output(WireId wire) {
    if (writes_) tables_.outputs[n_.outputs] = wire;
    ++n_.outputs;
  }
  /// A buffer for the next step alone.
  [[nodiscard]] constexpr WireId temporary(const Shape& shape) {
    return add_wire(shape, WireKind::temporary, here());
  }

  // --- paths -------------------------------------------------------------------------------------
  /// Enters a named part of the net; give what it returns to `leave`.
  [[nodiscard]] constexpr std::size_t enter(std::string_view name) {
    here_path_.offset = -1;
    return path_.enter(name, writes_ || targets_ != nullptr); // which are looked at when only counting, too
  }
  /// Opens the path element that a loop's index will fill.
  [[nodiscard]] constexpr std::size_t enter_loop_index() { return enter(std::string_view(&loop_mark, 1)); }
  constexpr void leave(std::size_t mark) {
    path_.leave(mark);
    here_path_.offset = -1;
  }

  // --- weights and slots -------------------------------------------------------------------------
  /// The tensor `<path>.<name>` of the checkpoint. Returns its index in the table.
  [[nodiscard]] constexpr std::int32_t weight(std::string_view name,
                                              std::initializer_list<std::int64_t> extents) {
    const TextRef path = path_with(name);
    if (writes_) {
      WeightEntry& entry = tables_.weights[n_.weights];
      entry.path = path;
      for (const std::int64_t extent : extents) entry.extents[at(entry.rank++)] = extent;
      entry.loop = loop_;
      entry.base = n_.weight_count;
      entry.copies = copies();
    }
    n_.weight_count += copies();
    return static_cast<std::int32_t>(n_.weights++);
  }
  /// A tensor that several layers read, by its full name; made by the first that asks for it.
  [[nodiscard]] constexpr std::int32_t shared_weight(std::string_view path,
                                                     std::initializer_list<std::int64_t> extents) {
    for (const SharedWeight& made : shared_)
      if (made.path == path) {
        if (writes_) require_shape(made.weight, extents);
        return made.weight;
      }
    const std::int32_t outer_loop = std::exchange(loop_, no_index);
    const NetPath outer_path = std::exchange(path_, NetPath());
    const std::int32_t made = weight(path, extents);
    path_ = outer_path;
    loop_ = outer_loop;
    shared_.push_back({path, made});
    return made;
  }
  /// The tensor `path` of a layer that was lowered before: a tied weight, which the checkpoint has once.
  [[nodiscard]] constexpr std::int32_t tied_weight(std::string_view path,
                                                   std::initializer_list<std::int64_t> extents) const {
    if (!writes_) return 0;
    for (std::size_t w = 0; w < n_.weights; ++w) {
      const TextRef ref = tables_.weights[w].path;
      if (std::string_view(tables_.text + ref.offset, static_cast<std::size_t>(ref.length)) != path) continue;
      require_shape(static_cast<std::int32_t>(w), extents);
      return static_cast<std::int32_t>(w);
    }
    throw "tenon: a tied weight must have the full name of a weight of an earlier layer";
  }
  /// Room for `width` floats of each token, kept from call to call where a caller keeps it (a KvCache).
  [[nodiscard]] constexpr std::int32_t state(std::int64_t width) {
    if (writes_) tables_.states[n_.states] = {width, loop_, n_.state_count, copies()};
    n_.state_count += copies();
    return static_cast<std::int32_t>(n_.states++);
  }
  /// From here to `end_targets` only slots that `filter` lets through are open. It must live until then.
  constexpr void begin_targets(TargetFilter& filter) {
    filter.begin = path_.text().size();
    filter.outer = targets_;
    targets_ = &filter;
  }
  constexpr void end_targets(const TargetFilter& filter) { targets_ = filter.outer; }
  /// `kinds`, or none where the slot at the current path is closed. A layer asks before it chooses its step.
  [[nodiscard]] constexpr std::uint32_t open_kinds(std::uint32_t kinds) const {
    if (kinds == 0) return 0;
    for (TargetFilter* filter = targets_; filter != nullptr; filter = filter->outer) {
      std::string_view path = path_.text().substr(filter->begin);
      if (path.starts_with('.')) path.remove_prefix(1);
      if (!filter->lets_through(path)) kinds = 0;
    }
    return kinds;
  }
  /// What the slots of norms accept from here on, 0 for none; gives what it was before.
  constexpr std::uint32_t set_norm_kinds(std::uint32_t kinds) { return std::exchange(norm_kinds_, kinds); }
  [[nodiscard]] constexpr std::uint32_t norm_kinds() const { return norm_kinds_; }
  /// A slot at the current path over `weight` [out, in, kernel ...] and `bias` [out]; `no_index` if it accepts no
  /// kind.
  [[nodiscard]] constexpr std::int32_t slot(std::uint32_t kinds, std::int32_t weight,
                                            std::int32_t bias = no_index) {
    if (kinds == 0) return no_index;
    const TextRef path = path_here();
    if (writes_) {
      const WeightEntry& of = tables_.weights[weight];
      std::int64_t positions = 1;
      for (std::size_t axis = 2; axis < at(of.rank); ++axis) positions *= of.extents[axis];
      tables_.slots[n_.slots] = {.path = path,
                                 .out = of.extents[0],
                                 .in = of.rank == 1 ? 1 : of.extents[1] * positions,
                                 .positions = positions,
                                 .kinds = kinds,
                                 .weight = weight,
                                 .bias = bias,
                                 .loop = loop_,
                                 .base = n_.slot_count,
                                 .copies = copies()};
    }
    n_.slot_count += copies();
    return static_cast<std::int32_t>(n_.slots++);
  }

  /// Another name of the slot, beside its own: call it after the layer's path was left. Does nothing where the slot is
  /// closed.
  constexpr void slice(std::int32_t slot, const SliceSpec& slice) {
    if (slot == no_index) return;
    const TextRef path = path_with(slice.name);
    if (writes_) tables_.slices[n_.slices] = {path, slot, slice.range};
    ++n_.slices;
  }

  // --- steps -------------------------------------------------------------------------------------
  /// Appends a step and its output wire, which is returned.
  [[nodiscard]] constexpr WireId step(const StepSpec& spec) {
    const WireId output = add_wire(spec.output, WireKind::internal, here());
    const TextRef path = path_here();
    if (writes_) {
      Step& next = tables_.steps[n_.steps];
      next.in_place = spec.in_place;
      next.op = spec.op;
      next.path = path;
      next.run = spec.run;
      next.scratch = spec.scratch;
      next.inputs = spec.inputs.ids;
      next.output = output;
      next.temporaries = spec.temporaries.ids;
      next.weights = spec.weights.ids;
      next.slot = spec.slot;
      next.state = spec.state;
      next.loop = loop_;
      next.params = spec.params;
    }
    ++n_.steps;
    return output;
  }

  /// Opens a loop that starts from the wires `carried`, which become those that its body reads. `copy` is the step that
  /// fills them, `first` the index in the paths of the first time.
  constexpr void begin_loop(std::int64_t count, std::int64_t first, std::span<WireId> carried,
                            StepFunction copy) {
    if (carried.size() > max_loop_carries) throw "tenon: a Repeat carries at most four wires";
    Loop loop{.count = count, .first = first, .parent = loop_};
    for (std::size_t i = 0; i < carried.size(); ++i)
      loop.carries[i] = carried[i] = step(
          {.op = "Copy", .run = copy, .inputs = {carried[i]}, .output = shape(carried[i]), .in_place = 1});
    loop.begin = here();
    loop.depth = loop_ == no_index ? 0 : loops_[at(loop_)].depth + 1;
    if (loop.depth >= max_loop_depth) throw "tenon: Repeats nest at most four deep";
    loop.copies = count * (loop_ == no_index ? 1 : loops_[at(loop_)].copies);
    loops_.push_back(loop);
    loop_ = static_cast<std::int32_t>(n_.loops++);
    mark_loop(StepKind::loop_begin);
  }
  /// Closes the innermost loop, whose body gave `results` for what it carries; they become the wires that hold the last
  /// iteration's.
  constexpr void end_loop(std::span<WireId> results, StepFunction copy) {
    for (WireId& result : results) // one from outside must stay where it is
      if (result < loops_[at(loop_)].carries[0])
        result = step({.op = "Copy", .run = copy, .inputs = {result}, .output = shape(result)});
    Loop& loop = loops_[at(loop_)];
    loop.end = here();
    for (std::size_t i = 0; i < results.size(); ++i) {
      for (std::size_t j = 0; j < results.size(); ++j)
        if (i != j && (results[i] == loop.carries[j] || results[i] == results[j]))
          throw "tenon: a repeated block must give each of its wires once, in the order in which it takes "
                "them";
      loop.results[i] = results[i];
      if (loop.count % 2 == 0) results[i] = loop.carries[i];
    }
    mark_loop(StepKind::loop_end);
    loop_ = loop.parent;
  }

  /// Works out the lifetimes; call once, after the last step of a writing run.
  constexpr void finish() {
    for (std::size_t l = 0; l < n_.loops; ++l) tables_.loops[l] = loops_[l];
    find_lifetimes(tables_, n_);
  }

 private:
  [[nodiscard]] static constexpr std::size_t at(std::int32_t index) {
    return static_cast<std::size_t>(index);
  }
  [[nodiscard]] constexpr std::int32_t here() const { return static_cast<std::int32_t>(n_.steps); }
  constexpr void require_shape(std::int32_t weight, std::initializer_list<std::int64_t> extents) const {
    std::size_t i = 0;
    for (const std::int64_t extent : extents)
      if (tables_.weights[weight].extents[i++] != extent)
        throw "tenon: a weight that several layers read must have one shape in all of them";
    if (tables_.weights[weight].rank != static_cast<int>(extents.size()))
      throw "tenon: a weight that several layers read must have one shape in all of them";
  }
  [[nodiscard]] constexpr std::int32_t copies() const {
    return loop_ == no_index ? 1 : static_cast<std::int32_t>(loops_[at(loop_)].copies);
  }

  [[nodiscard]] constexpr WireId add_wire(const Shape& shape, WireKind kind, std::int32_t first) {
    shapes_.push_back(shape);
    if (writes_) {
      Wire& wire = tables_.wires[n_.wires];
      wire.shape = shape;
      wire.kind = kind;
      wire.first = wire.last = first;
    }
    if (kind != WireKind::input) ++n_.by_first;
    return static_cast<WireId>(n_.wires++);
  }
  [[nodiscard]] constexpr TextRef append_text(std::string_view part) {
    const TextRef ref{static_cast<std::int32_t>(n_.text), static_cast<std::int32_t>(part.size())};
    if (writes_)
      for (std::size_t i = 0; i < part.size(); ++i) tables_.text[n_.text + i] = part[i];
    n_.text += part.size();
    return ref;
  }
  [[nodiscard]] constexpr TextRef path_with(std::string_view name) {
    const std::size_t mark = enter(name);
    const TextRef ref = append_text(path_.text());
    leave(mark);
    return ref;
  }
  /// The current path, written once however many steps and slots stand at it.
  [[nodiscard]] constexpr TextRef path_here() {
    if (here_path_.offset < 0) here_path_ = append_text(path_.text());
    return here_path_;
  }
  constexpr void mark_loop(StepKind kind) {
    if (writes_) {
      tables_.steps[n_.steps].kind = kind;
      tables_.steps[n_.steps].loop = loop_;
    }
    ++n_.steps;
  }

  struct SharedWeight {
    std::string_view path;
    std::int32_t weight;
  };

  ProgramTables tables_{};
  bool writes_ = false;
  ProgramSizes n_{};
  std::vector<Shape> shapes_{};
  std::vector<Loop> loops_{};
  std::vector<SharedWeight> shared_{};
  NetPath path_{};
  TextRef here_path_{.offset = -1};
  std::int32_t loop_ = no_index;
  TargetFilter* targets_ = nullptr; ///< the innermost
  std::uint32_t norm_kinds_ = 0;
};

} // namespace tenon
