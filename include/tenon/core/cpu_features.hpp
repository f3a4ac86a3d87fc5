// SPDX-License-Identifier: Apache-2.0
// What this machine's processor can do, asked once at run time: kernels are compiled for several instruction
// sets and chosen by these flags, so a user needs no -march. Other architectures have none of them.
// Cost: a few loads from a table that the compiler's runtime fills before main(); with AMX, a system call once.
#pragma once

#include <cstdint>
#include <string>

namespace tenon {

/// The x86 extensions that Tenon has kernels for. A flag also means that the system saves the registers it
/// needs; tiles (`amx_*`) moreover want its permission, once per process.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512vl = false;
  bool avx512_bf16 = false;
  bool amx_tile = false;
  bool amx_bf16 = false;
  bool tiles_permitted = false; ///< to this process

  friend constexpr bool operator==(const CpuFeatures&, const CpuFeatures&) = default;

  /// "avx2 fma f16c", or "none"
  [[nodiscard]] std::string text() const {
    const struct {
      bool has;
      const char* name;
    } features[] = {{avx2, "avx2"},
                    {fma, "fma"},
                    {f16c, "f16c"},
                    {avx512f, "avx512f"},
                    {avx512bw, "avx512bw"},
                    {avx512vl, "avx512vl"},
                    {avx512_bf16, "avx512_bf16"},
                    {amx_tile, "amx_tile"},
                    {amx_bf16, "amx_bf16"},
                    {tiles_permitted, "tiles_permitted"}};
    std::string out;
    for (const auto& feature : features)
      if (feature.has) out.append(out.empty() ? "" : " ").append(feature.name);
    return out.empty() ? "none" : out;
  }
};

/// Asks Linux, at the first call, to let this process use tiles (arch_prctl, ARCH_REQ_XCOMP_PERM), which it
/// does not do by itself since they make every thread's saved state 8 KiB larger: it refuses where a thread has a signal
/// stack (sigaltstack) that is too small for that, and from then on refuses such stacks, of 8 KiB (an old SIGSTKSZ) among
/// them. No other system is asked.
[[nodiscard]] inline bool permit_tiles() noexcept {
#if defined(__x86_64__) && defined(__linux__)
  static const bool is_permitted = [] {
    constexpr long call = 158, request = 0x1023, tile_data = 18;
    long result = call;
    asm volatile("syscall" : "+a"(result) : "D"(request), "S"(tile_data) : "rcx", "r11", "memory");
    return result == 0;
  }();
  return is_permitted;
#else
  return false;
#endif
}

/// Whether `permit_tiles` is called where the processor has tiles; what is not asked for is not permitted.
enum class TilePermission : std::uint8_t { ask, do_not_ask };

/// The features of the processor this runs on. May be called from any thread, also before main().
[[nodiscard]] inline CpuFeatures
cpu_features([[maybe_unused]] TilePermission permission = TilePermission::ask) noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  const auto has = [](int supported) { return supported != 0; };
  const bool has_tiles = has(__builtin_cpu_supports("amx-tile"));
  return {.avx2 = has(__builtin_cpu_supports("avx2")),
          .fma = has(__builtin_cpu_supports("fma")),
          .f16c = has(__builtin_cpu_supports("f16c")),
          .avx512f = has(__builtin_cpu_supports("avx512f")),
          .avx512bw = has(__builtin_cpu_supports("avx512bw")),
          .avx512vl = has(__builtin_cpu_supports("avx512vl")),
          .avx512_bf16 = has(__builtin_cpu_supports("avx512bf16")),
          .amx_tile = has_tiles,
          .amx_bf16 = has(__builtin_cpu_supports("amx-bf16")),
          .tiles_permitted = has_tiles && permission == TilePermission::ask && permit_tiles()};
#else
  return {};
#endif
}

} // namespace tenon
