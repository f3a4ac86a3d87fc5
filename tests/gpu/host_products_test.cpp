// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/gpu/host_products.hpp>
#include <tenon/gpu/round_rows.hpp>
#include <tenon/gpu/row_col.hpp>

#include <support/naive.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("The host's products on a device's memory agree with float64 and keep or replace y") {
  gpu::Queue queue;
  gpu::HostProducts products;
  for (const DType type : weight_dtypes)
    for (const std::int64_t rows : {1, 7, 40})
      for (const std::int64_t out : {1, 13, 70})
        for (const std::int64_t in : {1, 31, 400})
          for (const float keep : {0.0f, 1.0f}) {
            const FloatMatrix x(rows, in, 1, {.padding = 3});
            const StoredMatrix w(out, in, type, 2, {.padding = 1});
            const FloatMatrix y(rows, out, 3, {.padding = 2});
            Twin twin(rows, out);
            if (keep != 0.0f)
              twin.add_all(y);
            else // what was there must not be read
              for (std::int64_t i = 0; i < rows; ++i)
                y.view.row(i)[0] = std::numeric_limits<float>::quiet_NaN();
            twin.add_product(1.0, in, x, [&](std::int64_t k, std::int64_t j) { return w(j, k); });
            CHECK(products.scratch_bytes(rows, out, in, type) <= gpu::product_scratch_bytes(rows, out, in));
            products.multiply(queue, x.view, w.view, y.view, keep, {});
            INFO(dtype_name(type), " ", rows, " ", out, " ", in, " ", keep);
            // one rounding a product and one for what was kept; bfloat16 on tiles may take x in three parts
            CHECK(error_in_units(y.view, twin) <= static_cast<double>(3 * in + 4));
            CHECK(y.padding_untouched());
          }
}

TEST_CASE("Rows are rounded to the nearest number of 16 bits, and nothing between them is written") {
  gpu::Queue queue;
  const FloatMatrix x(5, 13, 1, {.padding = 3});
  const std::int64_t stride = gpu::rounded_stride(13);
  CHECK(stride == 16);
  std::vector<std::uint16_t> to(static_cast<std::size_t>(5 * stride), 0xABCD);
  gpu::round_rows<gpu::StoredBf16>(queue, x.view, to.data(), stride);
  for (std::int64_t i = 0; i < 5; ++i)
    for (std::int64_t j = 0; j < stride; ++j)
      CHECK(to[static_cast<std::size_t>(i * stride + j)] ==
            (j < 13 ? bf16_from_f32(x.view.row(i)[j]) : 0xABCD));
  gpu::round_rows<gpu::StoredF16>(queue, x.view, to.data(), stride);
  CHECK(to[static_cast<std::size_t>(4 * stride + 12)] == f16_from_f32(x.view.row(4)[12]));
}

TEST_CASE("Rows and columns of elements beyond 32 bits") {
  for (const std::int64_t cols : {std::int64_t{1}, std::int64_t{7}, std::int64_t{1} << 33})
    for (const std::int64_t i : {std::int64_t{0}, std::int64_t{6}, (std::int64_t{1} << 32) - 1,
                                 std::int64_t{1} << 32, (std::int64_t{1} << 40) + 5}) {
      const gpu::RowCol at = gpu::row_col(i, cols);
      CHECK(at.row * cols + at.col == i);
      CHECK((at.col >= 0 && at.col < cols));
    }
}

TEST_CASE("A scratch gives pieces on boundaries of 256 bytes") {
  alignas(256) static std::byte room[1024];
  gpu::DeviceScratch scratch(room);
  CHECK(reinterpret_cast<std::byte*>(scratch.take<float>(1)) == room);
  CHECK(reinterpret_cast<std::byte*>(scratch.take<float>(65)) == room + 256);
  CHECK(scratch.rest().size() == 256);
  CHECK(gpu::DeviceScratch::rounded(0) == 0);
  CHECK(gpu::DeviceScratch::rounded(257) == 512);
}
