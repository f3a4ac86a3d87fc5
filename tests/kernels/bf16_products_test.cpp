// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/bf16_products.hpp>
#include <tenon/kernels/gemm.hpp>

#include <support/naive.hpp>
#include <support/team.hpp>

#include <cstdint>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("The backend that rounds takes weights of bfloat16 and many rows, where the processor can") {
  const bool can = vector_kernels().multiply_pairs != nullptr;
  Team one(1);
  const FloatMatrix x(gemm_few_rows + 1, 70, 1);
  for (const DType type : weight_dtypes)
    for (const std::int64_t rows : {gemm_few_rows, gemm_few_rows + 1}) {
      const StoredMatrix w(130, 70, type, 2);
      FloatMatrix y(rows, 130, 3);
      const FloatMatrix before(rows, 130, 3);
      const bool took = bf16_products.add_product(x.view.rows_from(0, rows), w.view, y.view, one.workers);
      INFO(dtype_name(type), " ", rows);
      CHECK(took == (can && type == DType::bf16 && rows > gemm_few_rows));
      CHECK(same_bits(y.view, before.view) != took);
    }
}
