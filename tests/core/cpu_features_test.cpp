// SPDX-License-Identifier: Apache-2.0
#include <tenon/core/cpu_features.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace {

using tenon::cpu_features;
using tenon::CpuFeatures;

/// Whether the system's own list of processor flags has this one; unknown (no such list) reads as
/// `otherwise`.
bool system_lists(const std::string& flag, bool otherwise) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;)
      if (word == flag) return true;
    return false;
  }
  return otherwise;
}

TEST_CASE("The features are those that the system lists") {
  const CpuFeatures f = cpu_features();
  CHECK(f.avx2 == system_lists("avx2", f.avx2));
  CHECK(f.fma == system_lists("fma", f.fma));
  CHECK(f.f16c == system_lists("f16c", f.f16c));
  CHECK(f.avx512f == system_lists("avx512f", f.avx512f));
  CHECK(f.avx512bw == system_lists("avx512bw", f.avx512bw));
  CHECK(f.avx512vl == system_lists("avx512vl", f.avx512vl));
  CHECK(f.avx512_bf16 == system_lists("avx512_bf16", f.avx512_bf16));
  CHECK(f.amx_tile == system_lists("amx_tile", f.amx_tile));
  CHECK(f.amx_bf16 == system_lists("amx_bf16", f.amx_bf16));
}

TEST_CASE("Tiles are permitted only where there are any") {
  const CpuFeatures f = cpu_features();
  CHECK((f.amx_tile || !f.tiles_permitted));
}

TEST_CASE("Tiles that are not asked for are not permitted, and all else is the same") {
  CpuFeatures asked = cpu_features();
  asked.tiles_permitted = false;
  CHECK(cpu_features(tenon::TilePermission::do_not_ask) == asked);
}

TEST_CASE("Asking twice gives the same answer") { CHECK(cpu_features() == cpu_features()); }

TEST_CASE("The text names what is there and says none otherwise") {
  CHECK(CpuFeatures{}.text() == "none");
  CHECK(CpuFeatures{.avx2 = true, .f16c = true, .amx_bf16 = true}.text() == "avx2 f16c amx_bf16");
  CHECK(CpuFeatures{true, true, true, true, true, true, true, true, true, true}.text() ==
        "avx2 fma f16c avx512f avx512bw avx512vl avx512_bf16 amx_tile amx_bf16 tiles_permitted");
}

} // namespace
