// SPDX-License-Identifier: Apache-2.0
// The lowered form of a graph type: arrays of steps, wires, weights, slots and loops, all constants. A
// `Repeat` stays a loop, so a program's size does not depend on its count. Sessions, attach and tools work on
// this and never on a type.
#pragma once

#include <tenon/graph/shape.hpp>
#include <tenon/graph/step.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tenon {

using WireId = std::int32_t;
inline constexpr std::int32_t no_index = -1;

/// Characters in the program's text. A path has one `loop_mark` for each loop around it, outermost first.
struct TextRef {
  std::int32_t offset = 0;
  std::int32_t length = 0;
};
inline constexpr char loop_mark = '*';
inline constexpr int max_loop_depth = 4;
inline constexpr std::size_t max_loop_carries = 4;

enum class StepKind : std::uint8_t { compute, loop_begin, loop_end };

struct Step {
  StepKind kind = StepKind::compute;
  int in_place = 0; ///< of the first so many inputs the output may take the buffer of one that ends here
  std::string_view op{};
  TextRef path{};
  StepFunction run = nullptr;
  ScratchFunction scratch = nullptr;
  std::array<WireId, max_step_inputs> inputs{no_index, no_index, no_index, no_index};
  WireId output = no_index;
  std::array<WireId, max_step_temporaries> temporaries{no_index, no_index, no_index, no_index};
  std::array<std::int32_t, max_step_weights> weights{no_index, no_index, no_index, no_index};
  std::int32_t slot = no_index;
  std::int32_t state = no_index; ///< its StateEntry
  std::int32_t loop = no_index;  ///< innermost loop around it; for loop_begin and loop_end the loop itself
  StepParams params{};
};

enum class WireKind : std::uint8_t { input, internal, temporary };

/// `first` and `last` are steps: the buffer is taken at `first` and free after `last`.
struct Wire {
  Shape shape{};
  WireKind kind = WireKind::internal;
  TextRef name{};
  std::int32_t first = no_index;
  std::int32_t last = no_index;
};

/// A tensor of the checkpoint; inside loops one entry stands for `copies` tensors, numbered `base ...`. Steps inside
/// a loop may read one from outside, which has one copy.
struct WeightEntry {
  TextRef path{};
  int rank = 0;
  std::array<std::int64_t, max_wire_rank> extents{};
  std::int32_t loop = no_index;
  std::int32_t base = 0;
  std::int32_t copies = 1;

  [[nodiscard]] constexpr std::span<const std::int64_t> shape() const noexcept {
    return {extents.data(), static_cast<std::size_t>(rank)};
  }
  [[nodiscard]] constexpr std::int64_t size() const noexcept {
    std::int64_t n = 1;
    for (const std::int64_t e : shape()) n *= e;
    return n;
  }
};

/// A place for adapters: the weight [out, in] it changes, the kinds it accepts. A convolution's weight
/// [out, channels, kernel ...] is taken as a matrix: in = channels * positions.
struct SlotEntry {
  TextRef path{};
  std::int64_t out = 0;
  std::int64_t in = 0;
  std::int64_t positions = 1; ///< of a convolution's kernel
  std::uint32_t kinds = 0;
  std::int32_t weight = no_index; ///< its WeightEntry
  std::int32_t bias = no_index;   ///< that of the module's bias, if it has one
  std::int32_t loop = no_index;
  std::int32_t base = 0;
  std::int32_t copies = 1;
};

/// Rows of a larger weight [out, in], or columns of it: `first ... first + size - 1` of `total`.
struct SliceRange {
  std::int64_t first = 0;
  std::int64_t size = 0;
  std::int64_t total = 0;
  bool is_of_fused =
      false;              ///< the other name's module is the larger one, the slot its slice; else the reverse
  bool of_inputs = false; ///< columns
};
/// Another module's name, beside a slot's, and what they have in common.
struct SliceSpec {
  std::string_view name{};
  SliceRange range{};
};
struct SliceEntry {
  TextRef path{}; ///< with the loops of its slot
  std::int32_t slot = 0;
  SliceRange range{};
};

/// What a step keeps from one call to the next, for each token: `width` floats (the keys and values of an attention).
struct StateEntry {
  std::int64_t width = 0;
  std::int32_t loop = no_index;
  std::int32_t base = 0;
  std::int32_t copies = 1;
};

/// Steps `begin ... end` run `count` times; after each time the buffers of each carry and its result change
/// places.
struct Loop {
  std::int64_t count = 1;
  std::int64_t first = 0; ///< the index in the paths of the first time
  std::int32_t parent = no_index;
  std::int32_t depth = 0;
  std::int32_t begin = 0;
  std::int32_t end = 0;
  std::int64_t copies = 1; ///< product of the counts from the outermost loop to this one
  std::array<WireId, max_loop_carries> carries{no_index, no_index, no_index, no_index};
  std::array<WireId, max_loop_carries> results{no_index, no_index, no_index, no_index};
};

/// A program as spans; what it points at is constant and lives as long as the program does.
struct Program {
  std::span<const Step> steps;
  std::span<const Wire> wires;
  std::span<const WeightEntry> weights;
  std::span<const SlotEntry> slots;
  std::span<const SliceEntry> slices; ///< other names of slots
  std::span<const StateEntry> states;
  std::span<const Loop> loops;
  std::span<const WireId> inputs;
  std::span<const WireId> outputs;
  std::span<const WireId> by_first; ///< wires that need a buffer, in the order they take it
  std::string_view text;
  std::int32_t weight_count = 0; ///< tensors, loops expanded
  std::int32_t slot_count = 0;   ///< slots, loops expanded
  std::int32_t state_count = 0;  ///< states, loops expanded

  [[nodiscard]] constexpr std::string_view text_of(TextRef ref) const noexcept {
    return text.substr(static_cast<std::size_t>(ref.offset), static_cast<std::size_t>(ref.length));
  }
};

/// The path of copy `copy` (0 ... copies - 1) of an entry under `loop`: its marks replaced by the loops'
/// indices.
[[nodiscard]] inline std::string expanded_path(const Program& program, TextRef path, std::int32_t loop,
                                               std::int64_t copy) {
  std::array<std::int64_t, max_loop_depth> index{};
  for (std::int32_t l = loop; l != no_index; l = program.loops[static_cast<std::size_t>(l)].parent) {
    const Loop& at = program.loops[static_cast<std::size_t>(l)];
    index[static_cast<std::size_t>(at.depth)] = at.first + copy % at.count;
    copy /= at.count;
  }
  std::string out;
  std::size_t depth = 0;
  for (const char c : program.text_of(path)) {
    if (c == loop_mark)
      out += std::to_string(index[depth++]);
    else
      out += c;
  }
  return out;
}

/// Which copy of an entry a full path names, or -1: each mark stands for the index of its loop, in decimal.
[[nodiscard]] constexpr std::int64_t copy_named(const Program& program, TextRef pattern, std::int32_t loop,
                                                std::string_view path) noexcept {
  std::array<Loop, max_loop_depth> loops{};
  for (std::int32_t l = loop; l != no_index; l = program.loops[static_cast<std::size_t>(l)].parent) {
    const Loop& at = program.loops[static_cast<std::size_t>(l)];
    loops[static_cast<std::size_t>(at.depth)] = at;
  }
  std::int64_t copy = 0;
  std::size_t depth = 0;
  for (const char c : program.text_of(pattern)) {
    if (c != loop_mark) {
      if (path.empty() || path.front() != c) return -1;
      path.remove_prefix(1);
      continue;
    }
    std::int64_t index = 0;
    std::size_t digits = 0;
    for (; digits < path.size() && path[digits] >= '0' && path[digits] <= '9' && digits < 9; ++digits)
      index = index * 10 + (path[digits] - '0');
    const Loop& at = loops[depth++];
    if (digits == 0 || (digits > 1 && path.front() == '0') || index < at.first ||
        index >= at.first + at.count)
      return -1;
    path.remove_prefix(digits);
    copy = copy * at.count + index - at.first;
  }
  return path.empty() ? copy : -1;
}

} // namespace tenon
