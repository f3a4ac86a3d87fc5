// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/weights/half.hpp>

#include <support/file_bytes.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

using namespace tenon;

namespace {

/// A file that make_half_goldens.py wrote from PyTorch's conversions, as little-endian integers.
template <class T>
std::vector<T> golden(const std::string& name) {
  const std::string bytes = test::read_file(std::string(TENON_TEST_DATA) + "/goldens/half/" + name + ".bin");
  std::vector<T> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < bytes.size(); ++i)
    values[i / sizeof(T)] =
        static_cast<T>(values[i / sizeof(T)] | static_cast<T>(static_cast<unsigned char>(bytes[i]))
                                                   << (8 * (i % sizeof(T))));
  return values;
}

constexpr std::array<std::uint32_t, 32> special{
    0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x32FFFFFF, 0x33000000, 0x33000001,
    0xB3000000, 0x33800000, 0x387FDFFF, 0x387FE000, 0x387FEFFF, 0x387FF000, 0x387FF001, 0x387FFFFF,
    0x38800000, 0xB8800001, 0x477FE000, 0x477FEFFF, 0x477FF000, 0xC77FFFFF, 0x47800000, 0x7F7F7FFF,
    0x7F7F8000, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00000, 0x7FFFFFFF, 0xFF801000};

/// The patterns of make_half_goldens.py: the halfway point above each 16-bit magnitude, then its neighbours
/// with the sign set, then `special`.
template <class Halfway>
std::vector<std::uint32_t> patterns(Halfway halfway) {
  std::vector<std::uint32_t> list;
  for (std::uint32_t i = 0; i < 0x8000; ++i) list.push_back(halfway(i));
  for (std::uint32_t i = 0; i < 0x8000; ++i)
    list.push_back(0x80000000U | ((i & 2) != 0 ? halfway(i) + 1 : halfway(i) - 1));
  list.insert(list.end(), special.begin(), special.end());
  return list;
}
std::uint32_t f16_halfway(std::uint32_t i) {
  if (i >= 0x400) return (i << 13) + (112U << 23) + 0x1000;
  return std::bit_cast<std::uint32_t>(static_cast<float>(2 * i + 1) * 0x1p-25F);
}
std::uint32_t bf16_halfway(std::uint32_t i) { return (i << 16) + 0x8000; }

bool is_nan_f16(std::uint16_t bits) { return (bits & 0x7FFF) > 0x7C00; }
bool is_nan_bf16(std::uint16_t bits) { return (bits & 0x7FFF) > 0x7F80; }
bool is_nan_f32(std::uint32_t bits) { return (bits & 0x7FFFFFFF) > 0x7F800000; }

/// How many differ. Two NaNs agree whatever their payloads: PyTorch's depend on the processor it ran on.
template <class T, class IsNan>
int differences(const std::vector<T>& got, const std::vector<T>& expected, IsNan is_nan) {
  REQUIRE(got.size() == expected.size());
  int count = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    if (got[i] != expected[i] && !(is_nan(got[i]) && is_nan(expected[i]))) ++count;
  return count;
}

} // namespace

TEST_CASE("Every f16 widens as PyTorch widens it") {
  std::vector<std::uint32_t> got;
  for (std::uint32_t i = 0; i < 0x10000; ++i)
    got.push_back(std::bit_cast<std::uint32_t>(f32_from_f16(static_cast<std::uint16_t>(i))));
  CHECK(differences(got, golden<std::uint32_t>("f16_to_f32"), is_nan_f32) == 0);
}

TEST_CASE("Every bf16 widens as PyTorch widens it") {
  std::vector<std::uint32_t> expected;
  for (const std::uint16_t upper : golden<std::uint16_t>("bf16_to_f32"))
    expected.push_back(std::uint32_t{upper} << 16);
  std::vector<std::uint32_t> got;
  for (std::uint32_t i = 0; i < 0x10000; ++i)
    got.push_back(std::bit_cast<std::uint32_t>(f32_from_bf16(static_cast<std::uint16_t>(i))));
  CHECK(differences(got, expected, is_nan_f32) == 0);
}

TEST_CASE("Halfway cases and limits narrow to f16 as in PyTorch") {
  std::vector<std::uint16_t> got;
  for (const std::uint32_t bits : patterns(f16_halfway))
    got.push_back(f16_from_f32(std::bit_cast<float>(bits)));
  CHECK(differences(got, golden<std::uint16_t>("f32_to_f16"), is_nan_f16) == 0);
}

TEST_CASE("Halfway cases and limits narrow to bf16 as in PyTorch") {
  std::vector<std::uint16_t> got;
  for (const std::uint32_t bits : patterns(bf16_halfway))
    got.push_back(bf16_from_f32(std::bit_cast<float>(bits)));
  CHECK(differences(got, golden<std::uint16_t>("f32_to_bf16"), is_nan_bf16) == 0);
}

TEST_CASE("Narrowing undoes widening for every value but the payload of a NaN") {
  int wrong = 0;
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const std::uint16_t f16_back = f16_from_f32(f32_from_f16(bits));
    const std::uint16_t bf16_back = bf16_from_f32(f32_from_bf16(bits));
    if (is_nan_f16(bits) ? !is_nan_f16(f16_back) || (f16_back ^ bits) >= 0x8000 : f16_back != bits) ++wrong;
    if (is_nan_bf16(bits) ? !is_nan_bf16(bf16_back) || (bf16_back ^ bits) >= 0x8000 : bf16_back != bits)
      ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Conversions are constant expressions") {
  static_assert(f32_from_f16(0x3C00) == 1.0f);
  static_assert(f32_from_f16(0x0001) == 0x1p-24f);
  static_assert(f32_from_f16(0xFBFF) == -65504.0f);
  static_assert(f32_from_f16(0x7C00) == std::numeric_limits<float>::infinity());
  static_assert(f16_from_f32(65519.0f) == 0x7BFF);
  static_assert(f16_from_f32(65520.0f) == 0x7C00);
  static_assert(f16_from_f32(-0x1p-25f) == 0x8000);
  static_assert(f32_from_bf16(0xC0A0) == -5.0f);
  static_assert(bf16_from_f32(1.00390625f) == 0x3F80); // halfway between 1 and 1 + 2^-7: to even
  static_assert(bf16_from_f32(std::numeric_limits<float>::max()) == 0x7F80);
}
