// SPDX-License-Identifier: Apache-2.0
// The processor's matrix unit (Intel AMX: eight tiles of 16 rows of 64 bytes, and a product of bfloat16 tiles
// added to a float tile), as a policy: an algorithm over tiles is a template over the unit, so that one that
// is written with plain loops runs it on any machine. The instructions are assembler text: neither flags nor
// function attributes nor the compiler's header of intrinsics are needed. A unit belongs to one thread and one
// scope: its constructor configures the tiles, its destructor gives them up.
#pragma once

#include <concepts>
#include <cstdint>

namespace tenon::kernels {

inline constexpr std::int64_t amx_rows = 16;  ///< of every tile
inline constexpr std::int64_t amx_depth = 32; ///< ranks of a product: bfloat16 pairs in a row
inline constexpr std::int64_t amx_elements = amx_rows * amx_depth; ///< bfloat16 values of a tile

inline constexpr std::int64_t amx_parts = 3; ///< bfloat16 numbers whose sum is a float

/// Tiles 0 to 7: `zero<T>()`; `load<T>(from, stride)` and `store<T>(to, stride)`, rows of 64 bytes `stride`
/// bytes apart; `multiply<C, A, B>()`: C [16 x 16 floats] += A [16 x 32] B [32 x 16], where B lies in pairs: row
/// p holds B[2p][0], B[2p + 1][0], B[2p][1] and so on.
template <class Unit>
concept TileUnit = requires(Unit unit, const void* from, float* to, std::int64_t stride) {
  unit.template zero<0>();
  unit.template load<4>(from, stride);
  unit.template multiply<0, 4, 6>();
  unit.template store<0>(to, stride);
};

#if defined(__x86_64__)
/// The processor's own. Precondition: it has AMX for bfloat16 and the system permits its use (cpu_features.hpp).
class ProcessorTiles {
 public:
  ProcessorTiles() noexcept {
    struct {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::uint8_t reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } const shapes;
    static_assert(sizeof shapes == 64, "the layout that ldtilecfg reads");
    asm volatile("ldtilecfg %0" : : "m"(shapes));
  }
  ~ProcessorTiles() { asm volatile("tilerelease"); }
  ProcessorTiles(const ProcessorTiles&) = delete;
  ProcessorTiles& operator=(const ProcessorTiles&) = delete;

  template <int T>
  void zero() noexcept {
    asm volatile("tilezero %%tmm%c0" : : "i"(T));
  }
  template <int T>
  void load(const void* from, std::int64_t stride) noexcept {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(T), "r"(from), "r"(stride) : "memory");
  }
  template <int T>
  void store(float* to, std::int64_t stride) noexcept {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(T), "r"(to), "r"(stride) : "memory");
  }
  template <int C, int A, int B>
  void multiply() noexcept {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
};
#endif

} // namespace tenon::kernels
