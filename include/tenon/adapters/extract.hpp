// SPDX-License-Identifier: Apache-2.0
// The difference of two checkpoints as a LoRA, tensor by tensor: linears [out, in] and convolutions [out, in, k...]
// (flattened to [out, in k...]), each as the nearest pair of its rank, with the error stated. Differences are made
// in tiles as the decomposition asks for them: no tensor of either checkpoint is ever held as floats, unless it is
// small enough to be decomposed exactly. Cost: that of `to_lora` for each tensor that differs. One thread.
#pragma once

#include <tenon/adapters/lora_pair.hpp>
#include <tenon/adapters/to_lora.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/core/progress.hpp>
#include <tenon/formats/pattern.hpp>
#include <tenon/weights/checkpoint.hpp>
#include <tenon/weights/convert.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

struct ExtractOptions {
  ToLoraOptions svd{};                       ///< rank, method, dtype
  std::optional<RankRule> of_convolutions{}; ///< for kernels larger than 1; else as the others
  double least_difference = 0;               ///< tensors that nowhere differ by more are left out
  bool takes_small_tensors = false;          ///< tensors of one dimension as whole differences
  std::span<const Pattern> only{};           ///< modules whose path ends in a match; none: all
  std::span<const Pattern> embeddings{};     ///< modules that are tables, which no shape tells from a linear
  ProgressCallback progress{};               ///< after each tensor; false: `error{cancelled}`
};

/// What was made of one module.
struct ExtractedModule {
  std::string path{};
  KeptRank kept{};
  double error = 0; ///< |difference - scale B A| / |difference|
};

/// A tensor that differs, or might, and is not in the result.
struct LeftOut {
  std::string name{};
  std::string why{};
};

struct Extracted {
  LoraSet set{};
  std::vector<ExtractedModule> modules{}; ///< as in `set`
  std::vector<LeftOut> left_out{};
  std::int64_t unchanged = 0; ///< tensors that are the same in both, or differ by too little
};

/// Rows of tuned - base as floats; a row is a slice of the first dimension. Holds a tile of the base's, in the ledger.
class Difference {
 public:
  Difference(const TensorView& tuned, const TensorView& base, Ledger& ledger)
      : tuned_(tuned), base_(base), cols_(tuned.extent(0) == 0 ? 0 : tuned.size() / tuned.extent(0)),
        ledger_(ledger), room_(ledger, Category::scratch, tile_bytes(), "a difference of checkpoints") {}

  [[nodiscard]] RowSource source() const noexcept { return row_source(tuned_.extent(0), cols_, *this); }
  void operator()(std::int64_t first, std::int64_t count, float* out) const {
    const auto read = [&](const TensorView& view, float* to) {
      decode(view.dtype, view.data + first * cols_ * dtype_bytes(view.dtype), count * cols_, to);
    };
    auto* const others = reinterpret_cast<float*>(room_.data());
    read(tuned_, out);
    read(base_, others);
    for (std::int64_t i = 0; i < count * cols_; ++i) out[i] -= others[i];
  }
  /// The largest magnitude; NaN counts as infinite.
  [[nodiscard]] double largest() const {
    const std::int64_t step = source().tile_rows();
    Buffer room(ledger_, Category::scratch, tile_bytes(), "a difference of checkpoints");
    auto* const tile = reinterpret_cast<float*>(room.data());
    double most = 0;
    for (std::int64_t first = 0; first < tuned_.extent(0); first += step) {
      const std::int64_t count = std::min(step, tuned_.extent(0) - first);
      (*this)(first, count, tile);
      for (std::int64_t i = 0; i < count * cols_; ++i) {
        const double size = std::abs(static_cast<double>(tile[i]));
        if (!(size <= most)) most = size == size ? size : HUGE_VAL;
      }
    }
    return most;
  }

 private:
  [[nodiscard]] std::int64_t tile_bytes() const noexcept {
    return source().tile_rows() * cols_ * static_cast<std::int64_t>(sizeof(float));
  }

  TensorView tuned_;
  TensorView base_;
  std::int64_t cols_;
  Ledger& ledger_;
  mutable Buffer room_; // the base's rows
};

/// One extraction at work.
class Extraction {
 public:
  Extraction(const Checkpoint& base, const Checkpoint& tuned, const ExtractOptions& options)
      : base_(base), tuned_(tuned), options_(options) {}

  [[nodiscard]] Extracted run() {
    std::int64_t total = 0;
    std::int64_t done = 0;
    for (const CheckpointTensor& tensor : tuned_.tensors()) total += tensor.view.bytes();
    for (const CheckpointTensor& tensor : tuned_.tensors()) {
      take(tensor);
      done += tensor.view.bytes();
      if (!options_.progress({tensor.name, done, total}))
        throw error(ErrorCode::cancelled,
                    concat("extracting from ", tuned_.path(), ": stopped at ", tensor.name));
    }
    for (const CheckpointTensor& tensor : base_.tensors())
      if (tuned_.find(tensor.name) == nullptr)
        leave_out(tensor, concat(tuned_.path(), " has no such tensor"));
    return std::move(out_);
  }

 private:
  void leave_out(const CheckpointTensor& tensor, std::string why) {
    out_.left_out.push_back({std::string(tensor.name), std::move(why)});
  }
  [[nodiscard]] static bool matches(std::span<const Pattern> patterns, std::string_view module) {
    return std::any_of(patterns.begin(), patterns.end(),
                       [&](const Pattern& p) { return p.matches_module(module); });
  }

  void take(const CheckpointTensor& tensor) {
    constexpr std::string_view ending = ".weight";
    const CheckpointTensor* const base = base_.find(tensor.name);
    const std::string_view name = tensor.name;
    const bool is_weight = name.ends_with(ending);
    const std::string_view module = is_weight ? name.substr(0, name.size() - ending.size()) : name;
    if (!options_.only.empty() &&
        !matches(options_.only, is_weight ? module : name.substr(0, name.rfind('.'))))
      return;
    if (base == nullptr) return leave_out(tensor, concat(base_.path(), " has no such tensor"));
    if (!base->view.has_shape(tensor.view.shape()))
      return leave_out(tensor, concat("expected the base's shape ", shape_text(base->view.shape()), ", got ",
                                      shape_text(tensor.view.shape())));
    if (has_same_bytes(tensor.view, base->view)) return void(++out_.unchanged);
    if (!can_decode(tensor.view.dtype) || !can_decode(base->view.dtype))
      return leave_out(tensor, concat("expected floating-point values of at most 32 bits, got ",
                                      dtype_name(tensor.view.dtype), " and ", dtype_name(base->view.dtype)));
    if (tensor.view.rank == 0) return leave_out(tensor, "a single number has no rank");
    Ledger& ledger = options_.svd.ledger != nullptr ? *options_.svd.ledger : process_ledger();
    const Difference difference(tensor.view, base->view, ledger);
    if (difference.largest() <= options_.least_difference) return void(++out_.unchanged);
    if (tensor.view.rank == 1) return take_small(tensor, difference);
    if (!is_weight)
      return leave_out(tensor, "expected a module's weight, named .weight, got another parameter");
    take_module(tensor, module, difference);
  }

  [[nodiscard]] static bool can_decode(DType type) noexcept {
    return is_weight_dtype(type) || type == DType::f8_e4m3 || type == DType::f8_e5m2;
  }
  [[nodiscard]] static bool has_same_bytes(const TensorView& a, const TensorView& b) noexcept {
    return a.dtype == b.dtype &&
           (a.size() == 0 || std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes())) == 0);
  }

  void take_small(const CheckpointTensor& tensor, const Difference& difference) {
    if (!options_.takes_small_tensors)
      return leave_out(tensor, "one dimension: taken as a whole difference if asked for");
    Tensor values({tensor.view.extent(0)});
    difference(0, values.size(), values.values().data());
    out_.set.diffs.push_back({std::string(tensor.name), std::move(values)});
  }

  void take_module(const CheckpointTensor& tensor, std::string_view path, const Difference& difference) {
    LoraModule module{.path = std::string(path)};
    const std::span<const std::int64_t> shape = tensor.view.shape();
    ToLoraOptions svd = options_.svd;
    if (shape.size() > 2) {
      module.target = LoraTarget::convolution;
      module.kernel.assign(shape.begin() + 2, shape.end());
      const bool is_wide =
          std::any_of(module.kernel.begin(), module.kernel.end(), [](std::int64_t k) { return k != 1; });
      if (is_wide && options_.of_convolutions) svd.rank = *options_.of_convolutions;
    } else if (matches(options_.embeddings, path)) {
      module.target = LoraTarget::embedding;
    }
    try {
      MadeLora made = to_lora(difference.source(), svd);
      out_.modules.push_back({module.path, made.kept, made.error});
      module.pair = std::move(made.pair);
      out_.set.modules.push_back(std::move(module));
    } catch (const budget_error&) {
      throw;
    } catch (const error& problem) {
      throw error(problem.code(), concat(tuned_.path_of(tensor), ": ", tensor.name, ": ", problem.what()),
                  {.file = tuned_.path_of(tensor), .key = std::string(tensor.name)});
    }
  }

  const Checkpoint& base_;
  const Checkpoint& tuned_;
  const ExtractOptions& options_;
  Extracted out_{};
};

/// tuned - base as a LoRA. What cannot be part of it is listed, not dropped in silence. Throws `error{bad_argument}`
/// for options out of range or a weight with NaN or infinity, `error{cancelled}`.
[[nodiscard]] TENON_INLINE Extracted extract(const Checkpoint& base, const Checkpoint& tuned,
                                             const ExtractOptions& options);

#if TENON_HAS_MAKING_BODIES
TENON_INLINE Extracted extract(const Checkpoint& base, const Checkpoint& tuned,
                               const ExtractOptions& options) {
  check_rank_rule(options.svd.rank);
  if (options.of_convolutions) check_rank_rule(*options.of_convolutions);
  return Extraction(base, tuned, options).run();
}
#endif

} // namespace tenon
