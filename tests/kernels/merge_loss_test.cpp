// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/merge.hpp>
#include <tenon/kernels/merge_loss.hpp>

#include <support/instruction_sets.hpp>
#include <support/naive.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

/// A count in double of what `merged` lost, element by element.
MergeLoss counted(const StoredMatrix& base, const Twin& delta, const std::vector<std::byte>& merged) {
  MergeLoss loss;
  const std::int64_t bytes = dtype_bytes(base.view.dtype);
  for (std::int64_t i = 0; i < delta.rows; ++i)
    for (std::int64_t j = 0; j < delta.cols; ++j) {
      const std::byte* const stored = merged.data() + (i * delta.cols + j) * bytes;
      float after = 0;
      decode(base.view.dtype, stored, 1, &after);
      const double error = static_cast<double>(after) - base(i, j) - delta(i, j);
      loss += {.weights = 1,
               .unmoved = std::memcmp(stored, base.view.at(i, j), static_cast<std::size_t>(bytes)) == 0,
               .delta_squared = delta(i, j) * delta(i, j),
               .error_squared = error * error};
    }
  return loss;
}

struct Merge {
  Merge(const StoredMatrix& base, const Factors& f, const VectorKernels& kernels, bool with_loss)
      : out(static_cast<std::size_t>(base.view.rows * base.view.cols * dtype_bytes(base.view.dtype))) {
    const ExactScratch room(merge_scratch_bytes);
    merge_low_rank(base.view, {&f.term, 1}, out.data(), room.scratch(), kernels,
                   {.loss = with_loss ? &loss : nullptr});
    CHECK(room.guard_untouched());
  }
  std::vector<std::byte> out;
  MergeLoss loss;
};

constexpr std::int64_t rows = 53;
constexpr std::int64_t cols = 91;

} // namespace

TEST_CASE(
    "What a merge loses agrees with a count in double, whatever is stored and with every instruction set") {
  struct {
    std::int64_t rank;
    float scale; // of deltas beside weights up to 1
  } const cases[] = {{1, 3e-3f}, {16, 1e-4f}, {16, 3e-3f}, {16, 0.25f}, {merge_rank + 1, 3e-4f}};
  for (const auto& [rank, scale] : cases) {
    const Factors f(rows, cols, rank, DType::bf16, scale, 2, {.padding = 1});
    Twin exact_delta(rows, cols);
    exact_delta.add_product(static_cast<double>(scale), rank, f.b, f.a);
    for_each_instruction_set([&, depth = static_cast<double>(rank)](const VectorKernels& kernels) {
      for (const DType type : weight_dtypes) {
        const StoredMatrix base(rows, cols, type, 1, {.shift = 1, .padding = 3});
        const Merge merge(base, f, kernels, true);
        const MergeLoss exact = counted(base, exact_delta, merge.out);
        INFO(instruction_set_name(kernels.set), " ", dtype_name(type), " ", f.term.scale, " ", depth);
        CHECK(merge.out == Merge(base, f, kernels, false).out);
        CHECK(merge.loss.weights == rows * cols);
        CHECK(merge.loss.unmoved == exact.unmoved);
        // the float sum s B A may be off by rank * 2^-24 of what was added up, mostly by its root
        const double delta = std::sqrt(exact.delta_squared);
        const double room = 4 * std::sqrt(depth) * float_unit * delta;
        CHECK(std::abs(std::sqrt(merge.loss.delta_squared) - delta) <= room);
        CHECK(std::abs(std::sqrt(merge.loss.error_squared) - std::sqrt(exact.error_squared)) <= room);
      }
    });
  }
}

TEST_CASE("A float merge keeps all but a ten-thousandth of a small delta of which bf16 loses most") {
  const Factors f(rows, cols, 16, DType::f32, 1e-4f, 2);
  const auto loss_of = [&](DType type) {
    return Merge(StoredMatrix(rows, cols, type, 1), f, vector_kernels(), true).loss;
  };
  const MergeLoss of_f32 = loss_of(DType::f32);
  const MergeLoss of_f16 = loss_of(DType::f16);
  const MergeLoss of_bf16 = loss_of(DType::bf16);
  CHECK(of_f32.relative_error() < 2e-4); // 2^-24 of weights that are 10^3 to 10^4 times a delta
  CHECK(of_f32.share_unmoved() < 1e-3);
  CHECK(of_f16.relative_error() == doctest::Approx(0.67).epsilon(0.05));
  CHECK(of_f16.share_unmoved() == doctest::Approx(0.67).epsilon(0.05));
  CHECK(of_bf16.relative_error() > 0.9);
  CHECK(of_bf16.share_unmoved() > 0.9);
}

TEST_CASE("The loss of blocks adds up to that of the whole") {
  const StoredMatrix base(rows, cols, DType::bf16, 1);
  const Factors f(rows, cols, 8, DType::bf16, 2e-3f, 2);
  const MergeLoss whole = Merge(base, f, vector_kernels(), true).loss;
  MergeLoss parts;
  std::vector<std::byte> out(static_cast<std::size_t>(rows * cols * 2));
  const ExactScratch room(merge_scratch_bytes);
  for (std::int64_t i = 0; i < rows; i += 17) {
    const std::int64_t count = std::min<std::int64_t>(17, rows - i);
    LowRankTerm term = f.term;
    term.b = term.b.block(i, 0, count, 8);
    merge_low_rank(base.view.block(i, 0, count, cols), {&term, 1}, out.data(), room.scratch(),
                   vector_kernels(), {.loss = &parts});
  }
  CHECK(parts.weights == whole.weights);
  CHECK(parts.unmoved == whole.unmoved);
  CHECK(parts.delta_squared == doctest::Approx(whole.delta_squared).epsilon(1e-12));
  CHECK(parts.error_squared == doctest::Approx(whole.error_squared).epsilon(1e-12));
}

TEST_CASE("The loss of nothing is zero") {
  CHECK(MergeLoss{}.share_unmoved() == 0.0);
  CHECK(MergeLoss{}.relative_error() == 0.0);
}
