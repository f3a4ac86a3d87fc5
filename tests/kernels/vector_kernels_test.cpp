// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/tile_unit.hpp>
#include <tenon/kernels/vector_kernels.hpp>
#include <tenon/weights/convert.hpp>

#include <support/instruction_sets.hpp>
#include <support/naive.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

// The text of the 16-lane kernels, compiled for the instructions this program is built with: so it is
// executed on processors without AVX-512 too.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" // vectors wider than the registers, inside this file only
#elif defined(__clang__)
#pragma clang diagnostic ignored "-Wpsabi"
#endif
namespace tenon::kernels::wide {
#define TENON_LANES 16
#define TENON_ROWS 8
#define TENON_TARGET
#define TENON_HAS_F16C 0
#include <tenon/kernels/vector_kernels.inc>
} // namespace tenon::kernels::wide

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

namespace {

constexpr VectorKernels wide_kernels = {
    InstructionSet::avx512, wide::width,  wide::group,  wide::multiply_panel, wide::add_transposed,
    wide::dot_rows,         wide::decode, wide::encode, wide::split_tile,     wide::round_pairs};

template <class F>
void for_each_kernels(F f) {
  for_each_instruction_set(f);
  f(wide_kernels);
}

bool is_nan(std::uint16_t bits, DType type) {
  const float value = type == DType::f16 ? f32_from_f16(bits) : f32_from_bf16(bits);
  return std::isnan(value);
}

} // namespace

TEST_CASE("All 65,536 values of each 16-bit type are decoded as by the scalar functions") {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  for_each_kernels([&](const VectorKernels& kernels) {
    for (const DType type : {DType::f16, DType::bf16}) {
      std::vector<float> got(bits.size());
      std::vector<float> expected(bits.size());
      kernels.decode(type, reinterpret_cast<const std::byte*>(bits.data()), 65536, got.data());
      decode(type, reinterpret_cast<const std::byte*>(bits.data()), 65536, expected.data());
      std::int64_t different = 0;
      for (std::size_t i = 0; i < bits.size(); ++i) // a signalling NaN may come back quiet
        if (std::bit_cast<std::uint32_t>(got[i]) != std::bit_cast<std::uint32_t>(expected[i]) &&
            !(is_nan(bits[i], type) && std::isnan(got[i]) &&
              std::signbit(got[i]) == std::signbit(expected[i])))
          ++different;
      INFO(instruction_set_name(kernels.set), " ", kernels.width, " ", dtype_name(type));
      CHECK(different == 0);
    }
  });
}

TEST_CASE("Floats are encoded as by the scalar functions, ties and subnormals included") {
  std::vector<float> values;
  for (std::uint64_t i = 0; i < 65536;
       ++i) // each half's neighbourhood: itself, the tie above, a bit to each side
    for (const std::uint32_t low : {0x0000u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u})
      values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(i << 16) | low));
  const auto n = static_cast<std::int64_t>(values.size());
  for_each_kernels([&](const VectorKernels& kernels) {
    for (const DType type : {DType::f16, DType::bf16}) {
      std::vector<std::uint16_t> got(values.size());
      std::vector<std::uint16_t> expected(values.size());
      kernels.encode(type, values.data(), n, reinterpret_cast<std::byte*>(got.data()));
      encode(type, values.data(), n, reinterpret_cast<std::byte*>(expected.data()));
      std::int64_t different = 0;
      for (std::size_t i = 0; i < values.size(); ++i)
        if (got[i] != expected[i] && !(is_nan(expected[i], type) && is_nan(got[i], type))) ++different;
      INFO(instruction_set_name(kernels.set), " ", kernels.width, " ", dtype_name(type));
      CHECK(different == 0);
    }
  });
}

TEST_CASE("A short end is converted as if it were whole, and nothing beyond it is touched") {
  for_each_kernels([&](const VectorKernels& kernels) {
    for (const DType type : weight_dtypes)
      for (std::int64_t n = 0; n < 40; ++n) {
        const StoredMatrix from(1, 40, type, 1);
        std::vector<float> values(41, -7.0f);
        kernels.decode(type, from.view.data, n, values.data());
        CHECK(values[static_cast<std::size_t>(n)] == -7.0f);
        std::vector<std::byte> back(41 * 4, std::byte{0x5A});
        kernels.encode(type, values.data(), n, back.data());
        const auto bytes = static_cast<std::size_t>(n * dtype_bytes(type));
        CHECK(std::memcmp(back.data(), from.view.data, bytes) == 0);
        CHECK(back[bytes] == std::byte{0x5A});
      }
  });
}

TEST_CASE("A tile's floats are split into three parts that are all of it, in pairs of rows") {
  constexpr std::size_t count = amx_depth * amx_rows;
  std::vector<float> from = {0.0f,
                             -0.0f,
                             0x1.fffffep0f,
                             -0x1.234567p-20f,
                             std::numeric_limits<float>::max(),
                             std::numeric_limits<float>::lowest(),
                             std::numeric_limits<float>::min(),
                             std::numeric_limits<float>::denorm_min(),
                             std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity(),
                             std::numeric_limits<float>::quiet_NaN(),
                             std::bit_cast<float>(0xff800001u)}; // a NaN whose upper half is infinity's
  Numbers numbers(1);
  while (from.size() < count)
    from.push_back(std::ldexp(numbers.next(), static_cast<int>(numbers.next() * 120.0f)));
  for_each_kernels([&](const VectorKernels& kernels) {
    INFO(instruction_set_name(kernels.set), " ", kernels.width);
    std::vector<std::uint16_t> to(amx_parts * count + 1, 0x5A5A);
    kernels.split_tile(from.data(), to.data());
    CHECK(to.back() == 0x5A5A);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t row = i / amx_rows;
      const std::size_t at = row / 2 * amx_depth + i % amx_rows * 2 + row % 2;
      double sum = 0;
      for (std::size_t part = 0; part < amx_parts; ++part)
        sum += static_cast<double>(f32_from_bf16(to[part * count + at]));
      INFO(i, " ", from[i], " ", sum);
      const bool is_special = std::isnan(from[i]) || std::isinf(from[i]);
      const double error = is_special ? 0.0 : std::abs(sum - static_cast<double>(from[i]));
      CHECK(error < 0x1p-133);
      if (std::abs(from[i]) >= 0x1p-102f) CHECK(error == 0.0);
      if (is_special) CHECK((std::isnan(from[i]) ? std::isnan(sum) : sum == static_cast<double>(from[i])));
    }
  });
}

TEST_CASE("Pairs of rows are rounded to bfloat16 as by the scalar function, NaN and ties included") {
  std::vector<float> values;
  for (const std::uint32_t high :
       {0x0000u, 0x0001u, 0x3f80u, 0x3f81u, 0x7f7fu, 0x7f80u, 0x7fc0u, 0xbf80u, 0xff7fu})
    for (const std::uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      values.push_back(std::bit_cast<float>(high << 16 | low));
  values.resize(64, 0.1f);
  for_each_kernels([&](const VectorKernels& kernels) {
    std::vector<std::uint16_t> got(65, 0x5A5A);
    kernels.round_pairs({values.data(), 4, 16, 16}, got.data());
    INFO(instruction_set_name(kernels.set), " ", kernels.width);
    CHECK(got[64] == 0x5A5A);
    for (std::size_t r = 0; r < 4; ++r)
      for (std::size_t c = 0; c < 16; ++c)
        CHECK(got[r / 2 * 32 + 2 * c + r % 2] == bf16_from_f32(values[r * 16 + c]));
  });
}

TEST_CASE("Adding a transposed tile adds each element once and touches nothing beside it") {
  for_each_kernels([](const VectorKernels& kernels) {
    for (const std::int64_t rows : {1, 4, 8, 17, 48})
      for (const std::int64_t cols : {1, 4, 7, 16, 33}) {
        const FloatMatrix from(rows, cols, 1, {.padding = 1});
        FloatMatrix to(cols, rows, 2, {.padding = 3});
        const FloatMatrix before(cols, rows, 2, {.padding = 3});
        kernels.add_transposed(from.view, to.view);
        bool right = true;
        for (std::int64_t i = 0; i < rows; ++i)
          for (std::int64_t j = 0; j < cols; ++j)
            right = right && to.view.row(j)[i] == before.view.row(j)[i] + from.view.row(i)[j];
        INFO(instruction_set_name(kernels.set), " ", kernels.width, " ", rows, " ", cols);
        CHECK((right && to.padding_untouched()));
      }
  });
}

TEST_CASE("A panel's product and a row's dot products agree with float64 for every remainder") {
  for_each_kernels([&](const VectorKernels& kernels) {
    for (const std::int64_t rows : {1, 2, 5, 6, 7, 8, 9, 17})
      for (const std::int64_t depth : {1, 3, 16, 31, 53, 64, 67}) {
        const FloatMatrix left(rows, depth, 1, {.padding = 2});
        const FloatMatrix panel(depth, kernels.width, 2);
        FloatMatrix out(rows, kernels.width, 3, {.padding = 1});
        Twin twin(rows, kernels.width);
        twin.add_all(out);
        twin.add_product(0.5, depth, left, panel);
        kernels.multiply_panel(left.view, panel.view.data, 0.5f, out.view);
        INFO(kernels.width, " ", rows, " ", depth);
        CHECK(error_in_units(out.view, twin) <= static_cast<double>(depth + 4));
        CHECK(out.padding_untouched());
        for (const DType type : weight_dtypes) {
          const StoredMatrix w(rows, depth, type, 4, {.shift = 1, .padding = 3});
          const FloatMatrix x(1, depth, 5);
          FloatMatrix y(1, rows, 6, {.padding = 1});
          Twin exact(1, rows);
          exact.add_all(y);
          exact.add_product(0.5, depth, x, [&](auto k, auto r) { return w(r, k); });
          kernels.dot_rows(w.view, x.view.data, 0.5f, y.view.data);
          CHECK(error_in_units(y.view, exact) <= static_cast<double>(depth + 4));
          CHECK(y.padding_untouched());
        }
      }
  });
}

TEST_CASE("A row's dot product has the same bits alone and among others") {
  constexpr std::int64_t rows = 11;
  for_each_kernels([&](const VectorKernels& kernels) {
    for (const DType type : weight_dtypes)
      for (const std::int64_t depth : {5, 64, 117}) {
        const StoredMatrix w(rows, depth, type, 1, {.shift = 1, .padding = 3});
        const FloatMatrix x(1, depth, 2);
        FloatMatrix together(1, rows, 3);
        FloatMatrix alone(1, rows, 3);
        kernels.dot_rows(w.view, x.view.data, 0.5f, together.view.data);
        for (std::int64_t r = 0; r < rows; ++r)
          kernels.dot_rows(w.view.block(r, 0, 1, depth), x.view.data, 0.5f, alone.view.data + r);
        INFO(instruction_set_name(kernels.set), " ", kernels.width, " ", dtype_name(type), " ", depth);
        CHECK(same_bits(together.view, alone.view));
      }
  });
}
