// SPDX-License-Identifier: Apache-2.0
// What this machine's processor can do, asked once at run time: kernels are compiled for several instruction
// sets and chosen by these flags, so a user needs no -march. Other architectures have none of them.
// Cost: a few loads from a table that the compiler's runtime fills before main().
#pragma once

#include <string>

namespace tenon {

/// The x86 extensions that Tenon has kernels for. A flag also means that the system saves the registers it
/// needs; tiles (`amx_*`) moreover want the kernel's permission, once per process (arch_prctl), before use.
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
                    {amx_bf16, "amx_bf16"}};
    std::string out;
    for (const auto& feature : features)
      if (feature.has) out.append(out.empty() ? "" : " ").append(feature.name);
    return out.empty() ? "none" : out;
  }
};

/// The features of the processor this runs on. May be called from any thread, also before main().
[[nodiscard]] inline CpuFeatures cpu_features() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  const auto has = [](int supported) { return supported != 0; };
  return {.avx2 = has(__builtin_cpu_supports("avx2")),
          .fma = has(__builtin_cpu_supports("fma")),
          .f16c = has(__builtin_cpu_supports("f16c")),
          .avx512f = has(__builtin_cpu_supports("avx512f")),
          .avx512bw = has(__builtin_cpu_supports("avx512bw")),
          .avx512vl = has(__builtin_cpu_supports("avx512vl")),
          .avx512_bf16 = has(__builtin_cpu_supports("avx512bf16")),
          .amx_tile = has(__builtin_cpu_supports("amx-tile")),
          .amx_bf16 = has(__builtin_cpu_supports("amx-bf16"))};
#else
  return {};
#endif
}

} // namespace tenon
