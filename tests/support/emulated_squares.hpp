// SPDX-License-Identifier: Apache-2.0
// A unit for products of 16 x 16 squares (gpu/merge_mma.hpp) in plain code, which holds it to what a real one asks for:
// pointers on boundaries of 32 bytes, strides in multiples of 16 bytes.
#pragma once

#include <tenon/gpu/storage.hpp>

#include <doctest/doctest.h>

#include <cstdint>

namespace tenon::test {

struct Square {
  float at[16][16];
};

template <class Storage>
struct EmulatedSquares {
  using Factor = Storage;
  using Left = Square;
  using Right = Square;
  using Sum = Square;

  static void load_left(Square& to, const std::uint16_t* from, int stride) { load(to, from, stride); }
  static void load_right(Square& to, const std::uint16_t* from, int stride) { load(to, from, stride); }
  static void fill(Square& sum, float value) {
    for (auto& row : sum.at)
      for (float& x : row) x = value;
  }
  static void add_product(Square& sum, const Square& left, const Square& right) {
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j)
        for (int k = 0; k < 16; ++k) sum.at[i][j] += left.at[i][k] * right.at[k][j];
  }
  static void scale(Square& sum, float factor) {
    for (auto& row : sum.at)
      for (float& x : row) x *= factor;
  }
  static void add_scaled(Square& to, float factor, const Square& from) {
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) to.at[i][j] += factor * from.at[i][j];
  }
  static void store(const Square& sum, float* to, int stride) {
    check_place(to, stride * 4);
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) to[i * stride + j] = sum.at[i][j];
  }

 private:
  static void check_place(const void* data, int stride_bytes) {
    if (reinterpret_cast<std::uintptr_t>(data) % 32 != 0 || stride_bytes % 16 != 0)
      FAIL("a square of shared memory that no unit takes");
  }
  static void load(Square& to, const std::uint16_t* from, int stride) {
    check_place(from, stride * 2);
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) to.at[i][j] = Storage::value(from[i * stride + j]);
  }
};

} // namespace tenon::test
