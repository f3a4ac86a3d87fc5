// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/core/text.hpp>
#include <tenon/kernels/gemm.hpp>

#include <support/allocation_probe.hpp>
#include <support/instruction_sets.hpp>
#include <support/naive.hpp>
#include <support/random_cases.hpp>

#include <cstdint>
#include <initializer_list>
#include <string>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

constexpr float alpha = 0.75f;

struct Sizes {
  std::int64_t m, n, k;
};

/// The kernel's c and its largest error over (operations per element): at most 1 is what the theory promises.
struct Outcome {
  FloatMatrix c;
  double error;
  bool tidy;
};

Outcome run_nt(Sizes s, DType type, Place weight_place = {}, Place place = {},
               const VectorKernels& kernels = vector_kernels()) {
  const FloatMatrix a(s.m, s.k, 1, place);
  const StoredMatrix b(s.n, s.k, type, 2, weight_place);
  FloatMatrix c(s.m, s.n, 3, place);
  Twin twin(s.m, s.n);
  twin.add_all(c);
  twin.add_product(static_cast<double>(alpha), s.k, a, [&](auto k, auto j) { return b(j, k); });
  const ExactScratch room(multiply_scratch_bytes(s.m, s.n, s.k));
  multiply_nt(a.view, b.view, alpha, c.view, room.scratch(), kernels);
  const double error = error_in_units(c.view, twin) / static_cast<double>(s.k + 4);
  return {std::move(c), error, room.guard_untouched()};
}

Outcome run_nn(Sizes s, DType type, Place weight_place = {}, Place place = {},
               const VectorKernels& kernels = vector_kernels()) {
  const FloatMatrix a(s.m, s.k, 1, place);
  const StoredMatrix b(s.k, s.n, type, 2, weight_place);
  FloatMatrix c(s.m, s.n, 3, place);
  Twin twin(s.m, s.n);
  twin.add_all(c);
  twin.add_product(static_cast<double>(alpha), s.k, a, b);
  const ExactScratch room(multiply_scratch_bytes(s.m, s.n, s.k));
  multiply_nn(a.view, b.view, alpha, c.view, room.scratch(), kernels);
  const double error = error_in_units(c.view, twin) / static_cast<double>(s.k + 4);
  return {std::move(c), error, room.guard_untouched()};
}

/// One, a prime, a block and one more, of rows, columns and depth.
template <class F>
void for_all_sizes(F f) {
  for (const std::int64_t m : {std::int64_t{1}, gemm_few_rows, gemm_few_rows + 1, std::int64_t{13}})
    for (const std::int64_t n : {std::int64_t{1}, std::int64_t{7}, gemm_tile_rows, gemm_tile_rows + 1})
      for (const std::int64_t k : {std::int64_t{1}, std::int64_t{13}, gemm_depth, gemm_depth + 1})
        f(Sizes{m, n, k});
}

/// One shape of a sweep: b is [n, k] if it is transposed, else [k, n].
struct RandomProduct {
  RandomProduct(std::uint64_t number, bool transposes) : is_transposed(transposes) {
    RandomCase random(number);
    do
      s = {random.size(400, {1, gemm_few_rows, 16, max_panel_width, gemm_tile_rows, gemm_panels}),
           random.size(400, {1, 4, 16, max_panel_width, gemm_tile_rows, gemm_panels}),
           random.size(400, {1, 8, 16, max_panel_width, gemm_tile_rows, gemm_depth})};
    while (s.m * s.n * s.k > 6'000'000); // a case of milliseconds
    type = random.dtype();
    scale = random.factor();
    seed = random.seed();
    a_place = random.float_place();
    b_place = random.weight_place();
    c_place = random.float_place();
  }

  [[nodiscard]] std::string description() const {
    return concat(is_transposed ? "nt" : "nn", ", m ", s.m, ", n ", s.n, ", k ", s.k, ", ", dtype_name(type),
                  ", a ", text(a_place), ", b ", text(b_place), ", c ", text(c_place));
  }

  /// A product of two floats is rounded once or, where it is fused, not at all; a sum of k terms rounds each
  /// of them at most k - 1 times, in whatever order and however cut into blocks (adding to zero is exact);
  /// alpha and the addition to c round once more each. That is k + 2; two more are for the terms of second
  /// order.
  void check() const {
    const FloatMatrix a(s.m, s.k, seed, a_place);
    const StoredMatrix b(is_transposed ? s.n : s.k, is_transposed ? s.k : s.n, type, seed + 1, b_place);
    Twin twin = exact(FloatMatrix(s.m, s.n, seed + 2).view);
    add_product(twin, static_cast<double>(scale), exact(a.view),
                is_transposed ? transposed(exact(b.view)) : exact(b.view));
    for_each_instruction_set([&](const VectorKernels& kernels) {
      FloatMatrix c(s.m, s.n, seed + 2, c_place);
      const ExactScratch room(multiply_scratch_bytes(s.m, s.n, s.k));
      if (is_transposed)
        multiply_nt(a.view, b.view, scale, c.view, room.scratch(), kernels);
      else
        multiply_nn(a.view, b.view, scale, c.view, room.scratch(), kernels);
      INFO(instruction_set_name(kernels.set));
      CHECK(error_in_units(c.view, twin) <= static_cast<double>(s.k + 4));
      CHECK((room.guard_untouched() && c.padding_untouched()));
    });
  }

  bool is_transposed;
  Sizes s{};
  DType type{};
  float scale = 0;
  std::uint64_t seed = 0;
  Place a_place{}, b_place{}, c_place{};
};

} // namespace

TEST_CASE("A product agrees with float64 for random sizes, addresses and paddings in every instruction set") {
  for (std::uint64_t number = 0; number < 400; ++number) {
    const RandomProduct product(number, number % 2 == 0);
    INFO("case ", number, ": ", product.description());
    product.check();
  }
}

TEST_CASE("A product with a transposed weight agrees with float64 for all sizes and dtypes") {
  for (const DType type : weight_dtypes)
    for_all_sizes([&](Sizes s) {
      const Outcome got = run_nt(s, type, {.padding = 3}, {.padding = 5});
      INFO(dtype_name(type), " ", s.m, " ", s.n, " ", s.k);
      CHECK(got.error <= 1.0);
      CHECK((got.tidy && got.c.padding_untouched()));
    });
}

TEST_CASE("A product with a plain weight agrees with float64 for all sizes and dtypes") {
  for (const DType type : weight_dtypes)
    for_all_sizes([&](Sizes s) {
      const Outcome got = run_nn(s, type, {.padding = 3}, {.padding = 5});
      INFO(dtype_name(type), " ", s.m, " ", s.n, " ", s.k);
      CHECK(got.error <= 1.0);
      CHECK((got.tidy && got.c.padding_untouched()));
    });
}

TEST_CASE("A product agrees with float64 in every instruction set this processor has") {
  for_each_instruction_set([](const VectorKernels& kernels) {
    for (const DType type : weight_dtypes)
      for (const Sizes s :
           {Sizes{1, 9, 41}, Sizes{8, 50, 65}, Sizes{9, 50, 65}, Sizes{33, 7, 100}, Sizes{70, 33, 17}}) {
        INFO(instruction_set_name(kernels.set), " ", dtype_name(type), " ", s.m, " ", s.n, " ", s.k);
        const Outcome nt = run_nt(s, type, {.padding = 3}, {.padding = 5}, kernels);
        const Outcome nn = run_nn(s, type, {.padding = 3}, {.padding = 5}, kernels);
        CHECK((nt.error <= 1.0 && nt.tidy && nt.c.padding_untouched()));
        CHECK((nn.error <= 1.0 && nn.tidy && nn.c.padding_untouched()));
      }
  });
}

TEST_CASE("A row of a product does not depend on the rows beside it in a panel") {
  constexpr Sizes s{40, 31, 500};
  const FloatMatrix a(s.m, s.k, 1);
  const StoredMatrix b(s.n, s.k, DType::bf16, 2);
  FloatMatrix all(s.m, s.n, 3);
  FloatMatrix part(s.m, s.n, 3);
  const ExactScratch room(multiply_scratch_bytes(s.m, s.n, s.k));
  multiply_nt(a.view, b.view, alpha, all.view, room.scratch());
  multiply_nt(a.view.rows_from(5, 21), b.view, alpha, part.view.rows_from(5, 21), room.scratch());
  CHECK(same_bits(all.view.rows_from(5, 21), part.view.rows_from(5, 21)));
}

#if defined(__x86_64__)
TEST_CASE("Many rows and a bfloat16 weight go through the processor's tiles where the set is amx") {
  if (best_instruction_set(cpu_features()) < InstructionSet::amx) {
    MESSAGE("not tested: no AMX here");
    return;
  }
  const VectorKernels& tiles = vector_kernels(InstructionSet::amx);
  const VectorKernels& vectors = vector_kernels(InstructionSet::avx512);
  for (const Sizes s : {Sizes{gemm_few_rows + 1, 70, 530}, Sizes{130, 33, 800}}) {
    const FloatMatrix a(s.m, s.k, 1);
    const StoredMatrix b(s.n, s.k, DType::bf16, 2);
    FloatMatrix c(s.m, s.n, 3);
    const ExactScratch room(multiply_scratch_bytes(s.m, s.n, s.k));
    multiply_on_tiles<ProcessorTiles>(tiles, a.view, b.view, alpha, c.view, room.scratch());
    CHECK(same_bits(run_nt(s, DType::bf16, {}, {}, tiles).c.view, c.view));
    CHECK_FALSE(same_bits(run_nt(s, DType::bf16, {}, {}, vectors).c.view, c.view)); // sums of another order
    for (const DType other : {DType::f32, DType::f16})
      CHECK(same_bits(run_nt(s, other, {}, {}, tiles).c.view, run_nt(s, other, {}, {}, vectors).c.view));
  }
  const Sizes few{gemm_few_rows, 70, 530};
  CHECK(same_bits(run_nt(few, DType::bf16, {}, {}, tiles).c.view,
                  run_nt(few, DType::bf16, {}, {}, vectors).c.view));
}
#endif

TEST_CASE("More rows and more depth than a block holds are added up block by block") {
  CHECK(run_nt({gemm_panels + 1, 11, 30}, DType::bf16).error <= 1.0);
  CHECK(run_nn({gemm_panels + 1, 11, 30}, DType::f16).error <= 1.0);
  CHECK(run_nt({6, 5, 3 * gemm_depth + 1}, DType::f16).error <= 1.0);
  CHECK(run_nt({2, 3 * gemm_stream_bytes / 4000, 1001}, DType::f32).error <= 1.0);
}

TEST_CASE("The bits of a product do not depend on addresses or on padding") {
  for (const DType type : weight_dtypes)
    for (const Sizes s : {Sizes{1, 97, 1537}, Sizes{3, 19, 300}, Sizes{13, 97, 257}}) {
      const Outcome nt = run_nt(s, type);
      const Outcome nn = run_nn(s, type);
      for (const std::int64_t shift : {1, 2, 4, 20}) {
        INFO(dtype_name(type), " ", s.m, " shift ", shift);
        CHECK(same_bits(run_nt(s, type, {shift, shift}, {4 * shift, 1}).c.view, nt.c.view));
        CHECK(same_bits(run_nn(s, type, {shift, shift}, {4 * shift, 1}).c.view, nn.c.view));
      }
    }
}

TEST_CASE("A product over floats is the product over a float weight") {
  const Sizes s{9, 10, 11};
  const FloatMatrix a(s.m, s.k, 1);
  const FloatMatrix b(s.n, s.k, 2);
  FloatMatrix c(s.m, s.n, 3);
  const ExactScratch room(multiply_scratch_bytes(s.m, s.n, s.k));
  multiply_nt(a.view, b.view, alpha, c.view, room.scratch());
  CHECK(same_bits(c.view, run_nt(s, DType::f32).c.view));
}

TEST_CASE("A product with an empty side changes nothing") {
  FloatMatrix c(3, 4, 1);
  const FloatMatrix before(3, 4, 1);
  multiply_nt(Matrix{nullptr, 3, 0, 0}, Matrix{nullptr, 4, 0, 0}, 1.0f, c.view, {});
  multiply_nn(Matrix{nullptr, 3, 0, 0}, Matrix{nullptr, 0, 4, 4}, 1.0f, c.view, {});
  multiply_nt(Matrix{nullptr, 0, 5, 5}, FloatMatrix(4, 5, 1).view, 1.0f, Matrix{nullptr, 0, 4, 4}, {});
  CHECK(same_bits(c.view, before.view));
}

TEST_CASE("A product allocates nothing") {
  const FloatMatrix a(64, 400, 1);
  const StoredMatrix b(200, 400, DType::f16, 2);
  FloatMatrix c(64, 200, 3);
  const ExactScratch room(multiply_scratch_bytes(64, 200, 400));
  const AllocationProbe probe;
  multiply_nt(a.view, b.view, alpha, c.view, room.scratch());
  multiply_nt(a.view.rows_from(0, 1), b.view, alpha, c.view.rows_from(0, 1), room.scratch());
  multiply_nn(a.view.cols_from(0, 200), b.view.block(0, 0, 200, 200), alpha, c.view, room.scratch());
  const auto taken = probe.count();
  CHECK(taken == 0);
}

TEST_CASE("The scratch of a product grows with each size and has an upper bound") {
  static_assert(multiply_scratch_bytes(1 << 20, 1 << 20, 1 << 20) == 582 * 1024);
  std::int64_t before = 0;
  for (std::int64_t size = 1; size < 2000; size += 7) {
    const std::int64_t bytes = multiply_scratch_bytes(size, size, size);
    CHECK(bytes >= before);
    before = bytes;
  }
}
