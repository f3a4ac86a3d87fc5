// SPDX-License-Identifier: Apache-2.0
// Several adapters at one module as one: the weighted sum of their deltas exactly (`cat`: ranks laid end to end) or
// at a given rank (`svd`), and the sparse merges that PEFT offers, with its results for the same masks. Each
// pair's own scale counts, however it came about (alpha / rank, alpha / sqrt(rank), patterns); the result's
// scale is 1 wherever scales had to be multiplied in. Biases are merged as tensors of their own.
// Cost: cat: a copy. `svd`: an SVD of the ranks' sum. The other `*_svd`: every delta dense, in floats, entered in the
// ledger. One thread.
#pragma once

#include <tenon/adapters/combine_options.hpp>
#include <tenon/adapters/lora_pair.hpp>
#include <tenon/adapters/resize.hpp>
#include <tenon/adapters/task_tensors.hpp>
#include <tenon/adapters/to_lora.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/memory/buffer.hpp>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace tenon {

/// One adapter of the terms, which are those of one module. `error` and `kept` state what an SVD left of the combined
/// delta; 0 and all for the other methods. Throws `shape_error` for pairs of different shapes, or different ranks
/// under a method that needs equal ones; `error{bad_argument}` for a density out of range or a mask of the wrong
/// length.
[[nodiscard]] MadeLora combine(std::span<const CombineTerm> terms, const CombineOptions& options);

/// One combination at work; a step a member function.
class Combination {
 public:
  Combination(std::span<const CombineTerm> terms, const CombineOptions& options)
      : terms_(terms), options_(options), recipe_(recipe_of(options.method)) {
    check_terms();
  }

  [[nodiscard]] MadeLora run() const {
    MadeLora out;
    if (options_.method == CombineMethod::cat || is_one_as_it_is())
      out.pair = concatenated(true);
    else if (options_.method == CombineMethod::svd)
      out = summed_at_a_rank();
    else if (recipe_.on_deltas)
      out = merged_deltas();
    else
      out.pair = merged_factors();
    out.pair.bias = merged_bias();
    if (out.kept.rank == 0) out.kept = {.rank = out.pair.rank};
    return out;
  }

 private:
  enum class Part : std::uint64_t { a, b, delta, bias };

  [[noreturn]] static void refuse(ErrorCode code, std::string_view expected, std::string_view got) {
    throw error(code, concat("combine: expected ", expected, ", got ", got));
  }

  void check_terms() const {
    if (terms_.empty()) refuse(ErrorCode::bad_argument, "at least one adapter", "none");
    if (recipe_.pruning != Pruning::none) check_density(options_.density);
    const LoraPair& first = *terms_[0].pair;
    for (const CombineTerm& term : terms_) {
      const LoraPair& pair = *term.pair;
      check_pair(pair, "combine");
      if (pair.out != first.out || pair.in != first.in)
        throw shape_error(ErrorCode::wrong_shape,
                          concat("combine: expected a delta [", first.out, ", ", first.in,
                                 "] of every adapter, got [", pair.out, ", ", pair.in, "]"));
      if (!works_on_factors() || pair.rank == first.rank) continue;
      throw shape_error(ErrorCode::wrong_shape,
                        concat("combine: expected rank ", first.rank, " of every adapter, since ",
                               recipe_.name, " works on A and B, got ", pair.rank,
                               "; use cat, svd or a method that ends in _svd"));
    }
  }
  [[nodiscard]] bool works_on_factors() const noexcept {
    return !recipe_.on_deltas && options_.method != CombineMethod::cat;
  }
  /// A single adapter of which nothing is dropped: its factors need not be touched.
  [[nodiscard]] bool is_one_as_it_is() const noexcept {
    return terms_.size() == 1 && !recipe_.on_deltas &&
           (recipe_.pruning == Pruning::none || options_.density == 1);
  }

  /// The ranks of all, end to end. Where all scales are the same number it stays one; else each goes into its A.
  [[nodiscard]] LoraPair concatenated(bool may_keep_scale) const {
    const LoraPair& first = *terms_[0].pair;
    LoraPair out{.out = first.out, .in = first.in};
    bool is_same_scale = may_keep_scale;
    for (const CombineTerm& term : terms_) {
      out.rank += term.pair->rank;
      is_same_scale = is_same_scale && term.weight * term.pair->scale == terms_[0].weight * first.scale;
    }
    out.scale = is_same_scale ? terms_[0].weight * first.scale : 1;
    out.b.resize(static_cast<std::size_t>(out.out * out.rank));
    std::int64_t at = 0;
    for (const CombineTerm& term : terms_) {
      const double factor = is_same_scale ? 1 : term.weight * term.pair->scale;
      for (const float x : term.pair->a) out.a.push_back(static_cast<float>(factor * static_cast<double>(x)));
      for (std::int64_t i = 0; i < out.out; ++i)
        std::copy_n(term.pair->b_view().row(i), term.pair->rank, out.b.data() + i * out.rank + at);
      at += term.pair->rank;
    }
    return out;
  }

  [[nodiscard]] ToLoraOptions svd_options() const {
    ToLoraOptions out = options_.svd;
    if (out.rank.most != 0) return out;
    for (const CombineTerm& term : terms_) out.rank.most = std::max(out.rank.most, term.pair->rank);
    return out;
  }

  /// The weighted sum, from the factors.
  [[nodiscard]] MadeLora summed_at_a_rank() const {
    const ToLoraOptions svd = svd_options();
    const LoraPair all = concatenated(false);
    const Svd found = svd_of_product(DoubleMatrix(all.b_view()), DoubleMatrix(all.a_view()));
    MadeLora out;
    out.kept = choose_rank(found.sigma, found.energy, svd.rank);
    out.pair = pair_of_svd(found, out.kept.rank, svd.clamp_quantile);
    round_values(out.pair.a, svd.dtype);
    round_values(out.pair.b, svd.dtype);
    out.error = relative_error(all, out.pair);
    return out;
  }

  /// What of a term's tensor is kept; empty: all.
  [[nodiscard]] std::vector<std::uint8_t> mask(std::span<const float> values, std::size_t term, Part part,
                                               std::span<const std::uint8_t> given) const {
    if (recipe_.pruning == Pruning::none || options_.density == 1) return {};
    if (recipe_.pruning == Pruning::magnitude) return keep_largest(values, options_.density);
    if (given.empty())
      return keep_at_random(values.size(), options_.density,
                            mix_seed(options_.seed, term, static_cast<std::uint64_t>(part)));
    if (given.size() != values.size())
      refuse(ErrorCode::bad_argument, concat("a mask of ", values.size(), " elements"), concat(given.size()));
    return {given.begin(), given.end()};
  }
  [[nodiscard]] double enlarge() const noexcept {
    return recipe_.pruning == Pruning::random ? 1 / options_.density : 1;
  }
  [[nodiscard]] SignElection election() const noexcept {
    return recipe_.elects_signs ? options_.election : SignElection::none;
  }

  /// One tensor of all terms: `values(term)`, `weight(term)` and `given(term)` say which.
  template <class Values, class Weight, class Given>
  void merge(Part part, std::span<float> out, Values values, Weight weight, Given given) const {
    std::vector<std::vector<std::uint8_t>> masks;
    std::vector<TaskTensor> tasks;
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      masks.push_back(mask(values(i), i, part, given(terms_[i])));
      tasks.push_back(
          {.values = values(i), .keep = masks.back(), .weight = weight(terms_[i]), .enlarge = enlarge()});
    }
    merge_tasks(tasks, election(), out);
  }

  [[nodiscard]] LoraPair merged_factors() const {
    const LoraPair& first = *terms_[0].pair;
    LoraPair out{.out = first.out, .in = first.in, .rank = first.rank};
    out.a.resize(first.a.size());
    out.b.resize(first.b.size());
    const auto root = [](const CombineTerm& term, bool is_signed) {
      const double product = term.weight * term.pair->scale;
      return std::sqrt(std::abs(product)) * (is_signed && product < 0 ? -1 : 1);
    };
    const bool on_a = options_.sign_side == SignSide::a;
    merge(
        Part::a, out.a, [&](std::size_t i) { return std::span<const float>(terms_[i].pair->a); },
        [&](const CombineTerm& t) { return root(t, on_a); }, [](const CombineTerm& t) { return t.keep_a; });
    merge(
        Part::b, out.b, [&](std::size_t i) { return std::span<const float>(terms_[i].pair->b); },
        [&](const CombineTerm& t) { return root(t, !on_a); }, [](const CombineTerm& t) { return t.keep_b; });
    return out;
  }

  [[nodiscard]] MadeLora merged_deltas() const {
    const ToLoraOptions svd = svd_options();
    Ledger& ledger = svd.ledger != nullptr ? *svd.ledger : process_ledger();
    const LoraPair& first = *terms_[0].pair;
    const std::int64_t size = first.out * first.in;
    const auto count = static_cast<std::size_t>(size);
    // every delta, their masks and the merged one
    Buffer room(ledger, Category::scratch, (std::ssize(terms_) + 1) * size * 4, "merging dense deltas");
    const ScratchCharge masks(ledger, recipe_.pruning == Pruning::none ? 0 : std::ssize(terms_) * size,
                              "merging dense deltas");
    auto* const floats = reinterpret_cast<float*>(room.data());
    for (std::size_t i = 0; i < terms_.size(); ++i) write_delta(*terms_[i].pair, floats + i * count);
    const std::span<float> merged(floats + terms_.size() * count, count);
    merge(
        Part::delta, merged, [&](std::size_t i) { return std::span<const float>(floats + i * count, count); },
        [](const CombineTerm& t) { return t.weight; }, [](const CombineTerm& t) { return t.keep_delta; });
    const auto rows = [&](std::int64_t from, std::int64_t n, float* out) {
      std::memcpy(out, merged.data() + from * first.in,
                  static_cast<std::size_t>(n * first.in) * sizeof(float));
    };
    return to_lora(row_source(first.out, first.in, rows), svd);
  }

  /// scale B A, each element rounded once.
  static void write_delta(const LoraPair& pair, float* out) {
    const DoubleMatrix a(pair.a_view());
    std::vector<double> row(static_cast<std::size_t>(pair.in));
    for (std::int64_t i = 0; i < pair.out; ++i) {
      std::fill(row.begin(), row.end(), 0.0);
      for (std::int64_t k = 0; k < pair.rank; ++k) {
        const double b = pair.scale * static_cast<double>(pair.b_view().row(i)[k]);
        for (std::int64_t j = 0; j < pair.in; ++j) row[static_cast<std::size_t>(j)] += b * a.row(k)[j];
      }
      for (std::int64_t j = 0; j < pair.in; ++j)
        out[i * pair.in + j] = static_cast<float>(row[static_cast<std::size_t>(j)]);
    }
  }

  /// Empty if no term has one; a term without has zeros.
  [[nodiscard]] std::vector<float> merged_bias() const {
    const std::int64_t size = terms_[0].pair->out;
    bool has_any = false;
    for (const CombineTerm& term : terms_) has_any = has_any || !term.pair->bias.empty();
    if (!has_any) return {};
    const std::vector<float> zeros(static_cast<std::size_t>(size));
    std::vector<float> out(zeros);
    merge(
        Part::bias, out,
        [&](std::size_t i) {
          const std::vector<float>& bias = terms_[i].pair->bias;
          return std::span<const float>(bias.empty() ? zeros : bias);
        },
        [](const CombineTerm& t) { return t.weight; },
        [](const CombineTerm&) { return std::span<const std::uint8_t>(); });
    return out;
  }

  std::span<const CombineTerm> terms_;
  const CombineOptions& options_;
  const CombineRecipe& recipe_;
};

#if TENON_HAS_MAKING_BODIES
TENON_INLINE MadeLora combine(std::span<const CombineTerm> terms, const CombineOptions& options) {
  return Combination(terms, options).run();
}
#endif

} // namespace tenon
