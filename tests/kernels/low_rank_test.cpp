// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/core/text.hpp>
#include <tenon/kernels/linear.hpp>
#include <tenon/kernels/low_rank.hpp>
#include <tenon/kernels/merge.hpp>

#include <support/allocation_probe.hpp>
#include <support/instruction_sets.hpp>
#include <support/naive.hpp>
#include <support/random_cases.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// twin += scale (x A^T) B^T
void add_exact(Twin& twin, const FloatMatrix& x, const Factors& f) {
  Twin shrunk(x.view.rows, f.a.view.rows);
  shrunk.add_product(1, x.view.cols, x, [&](auto k, auto r) { return f.a(r, k); });
  const auto b = [&](auto r, auto j) { return f.b(j, r); };
  twin.add_product(
      static_cast<double>(f.term.scale), f.a.view.rows, shrunk, b,
      [&](auto i, auto r) { return shrunk.size(i, r); }, [&](auto r, auto j) { return std::abs(b(r, j)); });
}

void add_to(const FloatMatrix& x, std::span<const LowRankTerm> terms, FloatMatrix& y,
            const VectorKernels& kernels = vector_kernels()) {
  const ExactScratch room(low_rank_scratch_bytes(x.view.rows, y.view.cols, x.view.cols));
  low_rank_add(x.view, terms, y.view, room.scratch(), kernels);
  CHECK((room.guard_untouched() && y.padding_untouched()));
}

/// One shape of a sweep: x [rows, in], y [rows, out], up to 20 terms, each of its own rank, dtype and place.
struct RandomSide {
  explicit RandomSide(std::uint64_t number) {
    RandomCase random(number);
    std::vector<std::int64_t> term_ranks;
    do {
      rows = random.size(400, {1, gemm_few_rows, 16, max_panel_width, low_rank_tile});
      in = random.size(400, {1, 8, 16, max_panel_width, gemm_depth});
      out = random.size(400, {1, 4, 16, max_panel_width, gemm_tile_rows});
      term_ranks.assign(static_cast<std::size_t>(random.below(2) == 0 ? 1 : 1 + random.below(20)), 0);
      ranks = 0;
      for (std::int64_t& rank : term_ranks)
        ranks += rank = random.below(2) == 0 ? 1 + random.below(16)
                                             : random.size(512, {1, 16, gemm_tile_rows, low_rank_depth, 512});
    } while (rows * ranks * (in + out) > 12'000'000); // a case of milliseconds
    seed = random.seed();
    x_place = random.float_place();
    y_place = random.float_place();
    terms.reserve(term_ranks.size());
    for (const std::int64_t rank : term_ranks) {
      terms.emplace_back(out, in, rank, random.dtype(), random.factor(), seed + 2 * terms.size() + 3,
                         random.weight_place());
      list.push_back(terms.back().term);
    }
    base_type = random.dtype();
  }

  [[nodiscard]] std::string description() const {
    std::string out_text = concat("rows ", rows, ", in ", in, ", out ", out, ", x ", text(x_place), ", y ",
                                  text(y_place), ", W ", dtype_name(base_type), ", terms");
    for (const LowRankTerm& term : list) out_text += concat(" ", term.a.rows, " ", dtype_name(term.a.dtype));
    return out_text;
  }

  /// twin += sum_i s_i (x A_i^T) B_i^T
  void add_terms(Twin& twin, const Twin& x) const {
    for (const LowRankTerm& term : list) {
      Twin shrunk(x.rows, term.a.rows);
      add_product(shrunk, 1, x, transposed(exact(term.a)));
      add_product(twin, static_cast<double>(term.scale), shrunk, transposed(exact(term.b)));
    }
  }

  /// How often a value may be rounded on its way into y: `in` times in x A^T (products and sums; adding to
  /// zero is exact), once with the scale, in sums over as many ranks as are taken together, and once for each
  /// time that such a sum is added to y; four more are for the terms of second order.
  [[nodiscard]] double roundings() const {
    std::int64_t additions = 0;
    for (const LowRankTerm& term : list) additions += (term.a.rows + low_rank_depth - 1) / low_rank_depth;
    return static_cast<double>(in + 1 + std::min(ranks, low_rank_depth) + additions + 4);
  }

  std::int64_t rows = 0, in = 0, out = 0, ranks = 0;
  std::uint64_t seed = 0;
  DType base_type{};
  Place x_place{}, y_place{};
  std::vector<Factors> terms{};
  std::vector<LowRankTerm> list{};
};

/// Largest relative error of one rounding to `type`: half of the distance between neighbours.
double rounding_of(DType type) {
  return type == DType::f32 ? 0x1p-24 : type == DType::f16 ? 0x1p-11 : 0x1p-8;
}

} // namespace

TEST_CASE(
    "The side path agrees with float64 for random shapes, ranks, terms and places in every instruction set") {
  for (std::uint64_t number = 0; number < 250; ++number) {
    const RandomSide side(number);
    INFO("case ", number, ": ", side.description());
    const FloatMatrix x(side.rows, side.in, side.seed, side.x_place);
    Twin twin = exact(FloatMatrix(side.rows, side.out, side.seed + 1).view);
    side.add_terms(twin, exact(x.view));
    for_each_instruction_set([&](const VectorKernels& kernels) {
      FloatMatrix y(side.rows, side.out, side.seed + 1, side.y_place);
      add_to(x, side.list, y, kernels);
      INFO(instruction_set_name(kernels.set));
      CHECK(error_in_units(y.view, twin) <= side.roundings());
    });
  }
}

// x W'^T with the stored W' = W + s B A differs from the exact result by one rounding of each weight to its
// dtype, and by the float roundings of the merge, of the product and of the side path.
TEST_CASE("Side path and merged weight agree within one rounding of the weight for random shapes") {
  for (std::uint64_t number = 1000; number < 1100; ++number) {
    const RandomSide side(number);
    INFO("case ", number, ": ", side.description());
    const FloatMatrix x(side.rows, side.in, side.seed, side.x_place);
    const StoredMatrix w(side.out, side.in, side.base_type, side.seed + 1);
    Twin changed = exact(w.view); // W + s B A
    for (const LowRankTerm& term : side.list)
      add_product(changed, static_cast<double>(term.scale), exact(term.b), exact(term.a));
    const Twin x_exact = exact(x.view);
    Twin twin(side.rows, side.out);
    add_product(twin, 1, x_exact, transposed(changed));
    Twin rounded(side.rows, side.out); // |x| times what one rounding may change in each weight
    Twin steps(side.in, side.out);
    for (std::int64_t j = 0; j < side.out; ++j)
      for (std::int64_t k = 0; k < side.in; ++k)
        steps.add(k, j, 0,
                  rounding_of(side.base_type) * std::abs(changed(j, k)) + 0x1p-25); // f16: subnormals
    add_product(rounded, 1, x_exact, steps);
    const double float_roundings = side.roundings() + 2.0 * static_cast<double>(side.in + side.ranks + 8);

    for_each_instruction_set([&](const VectorKernels& kernels) {
      FloatMatrix beside(side.rows, side.out, side.seed, side.y_place);
      FloatMatrix merged(side.rows, side.out, side.seed, side.y_place);
      fill_rows({}, beside.view);
      fill_rows({}, merged.view);
      const ExactScratch room(
          std::max(linear_scratch_bytes(side.rows, side.out, side.in), merge_scratch_bytes));
      multiply_nt(x.view, w.view, 1.0f, beside.view, room.scratch(), kernels);
      add_to(x, side.list, beside, kernels);
      StoredMatrix overlay(side.out, side.in, side.base_type, 0);
      merge_low_rank(w.view, side.list, overlay.bytes.data(), room.scratch(), kernels);
      multiply_nt(x.view, overlay.view, 1.0f, merged.view, room.scratch(), kernels);
      double worst = 0; // in units of what is allowed
      for (std::int64_t i = 0; i < side.rows; ++i)
        for (std::int64_t j = 0; j < side.out; ++j) {
          const double allowed = rounded.size(i, j) + float_roundings * float_unit * twin.size(i, j);
          const double apart = std::abs(beside(i, j) - merged(i, j));
          if (apart <= worst * allowed) continue;
          worst = apart >= 0 ? apart / allowed : std::numeric_limits<double>::infinity(); // NaN
        }
      INFO(instruction_set_name(kernels.set));
      CHECK(worst <= 1.0);
    });
  }
}

TEST_CASE("The side path agrees with float64 for all ranks and dtypes") {
  constexpr std::int64_t in = 37;
  constexpr std::int64_t out = 41;
  for (const DType type : weight_dtypes)
    for (const std::int64_t rows : {1, 5, 9, 29})
      for (const std::int64_t rank :
           {std::int64_t{1}, std::int64_t{13}, low_rank_depth, low_rank_depth + 1, std::int64_t{512}}) {
        const FloatMatrix x(rows, in, 1, {.padding = 1});
        const Factors f(out, in, rank, type, 0.5f, 2, {.padding = 2});
        FloatMatrix y(rows, out, 4, {.padding = 3});
        Twin twin(rows, out);
        twin.add_all(y);
        add_exact(twin, x, f);
        add_to(x, {&f.term, 1}, y);
        INFO(dtype_name(type), " ", rows, " ", rank);
        CHECK(error_in_units(y.view, twin) <= static_cast<double>(in + rank + 8));
      }
}

TEST_CASE("The side path agrees with float64 in every instruction set this processor has") {
  for_each_instruction_set([](const VectorKernels& kernels) {
    for (const std::int64_t rows : {2, 8, 9, 40}) {
      const FloatMatrix x(rows, 45, 1);
      const Factors f(51, 45, 19, DType::bf16, -1.5f, 2);
      FloatMatrix y(rows, 51, 4, {.padding = 3});
      Twin twin(rows, 51);
      twin.add_all(y);
      add_exact(twin, x, f);
      add_to(x, {&f.term, 1}, y, kernels);
      INFO(instruction_set_name(kernels.set), " ", rows);
      CHECK(error_in_units(y.view, twin) <= 45 + 19 + 8);
    }
  });
}

TEST_CASE("Terms of several ranks and dtypes add up") {
  const std::vector<Factors> factors = [] {
    std::vector<Factors> list;
    list.emplace_back(50, 60, 4, DType::bf16, 2.0f, 10);
    list.emplace_back(50, 60, 200, DType::f16, -0.25f, 20);
    list.emplace_back(50, 60, 1, DType::f32, 1.0f, 30);
    return list;
  }();
  const FloatMatrix x(9, 60, 1);
  FloatMatrix y(9, 50, 2);
  Twin twin(9, 50);
  twin.add_all(y);
  std::vector<LowRankTerm> terms;
  for (const Factors& f : factors) {
    add_exact(twin, x, f);
    terms.push_back(f.term);
  }
  add_to(x, terms, y);
  CHECK(error_in_units(y.view, twin) <= 60 + 205 + 12);
}

TEST_CASE("More rows than a tile holds give what each tile gives alone") {
  const FloatMatrix x(low_rank_tile + 3, 20, 1);
  const Factors f(10, 20, 6, DType::f16, 1.5f, 2);
  FloatMatrix y(low_rank_tile + 3, 10, 3);
  FloatMatrix tail(low_rank_tile + 3, 10, 3);
  add_to(x, {&f.term, 1}, y);
  const ExactScratch room(low_rank_scratch_bytes(3, 10, 20));
  low_rank_add(x.view.rows_from(low_rank_tile, 3), {&f.term, 1}, tail.view.rows_from(low_rank_tile, 3),
               room.scratch());
  CHECK(same_bits(y.view.rows_from(low_rank_tile, 3), tail.view.rows_from(low_rank_tile, 3)));
}

TEST_CASE("The bits of the side path do not depend on addresses") {
  for (const DType type : weight_dtypes) {
    FloatMatrix y(11, 70, 1);
    FloatMatrix shifted(11, 70, 1, {.shift = 4, .padding = 1});
    const Factors plain(70, 90, 17, type, 0.3f, 2);
    const Factors moved(70, 90, 17, type, 0.3f, 2, {.shift = 3});
    add_to(FloatMatrix(11, 90, 5), {&plain.term, 1}, y);
    add_to(FloatMatrix(11, 90, 5, {.shift = 20, .padding = 3}), {&moved.term, 1}, shifted);
    CHECK(same_bits(y.view, shifted.view));
  }
}

TEST_CASE("No terms and terms of rank 0 leave y as it is") {
  const FloatMatrix x(3, 8, 1);
  FloatMatrix y(3, 5, 2);
  const LowRankTerm nothing{{nullptr, DType::f32, 0, 8, 8}, {nullptr, DType::f32, 5, 0, 0}, 1.0f};
  add_to(x, {}, y);
  add_to(x, {&nothing, 1}, y);
  CHECK(same_bits(y.view, FloatMatrix(3, 5, 2).view));
}

TEST_CASE("The side path allocates nothing and its scratch has an upper bound") {
  static_assert(low_rank_scratch_bytes(1 << 20, 1 << 16, 1 << 16) == 712 * 1024);
  const FloatMatrix x(300, 100, 1);
  const Factors f(120, 100, 16, DType::bf16, 1.0f, 2);
  FloatMatrix y(300, 120, 3);
  const ExactScratch room(low_rank_scratch_bytes(300, 120, 100));
  const AllocationProbe probe;
  low_rank_add(x.view, {&f.term, 1}, y.view, room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
}
