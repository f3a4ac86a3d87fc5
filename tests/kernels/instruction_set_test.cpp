// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/instruction_set.hpp>

#include <string>

using namespace tenon;
using namespace tenon::kernels;

namespace {

constexpr CpuFeatures old_processor{};
constexpr CpuFeatures with_avx2{.avx2 = true, .fma = true, .f16c = true};
constexpr CpuFeatures with_avx512{.avx2 = true, .fma = true, .f16c = true, .avx512f = true};
constexpr CpuFeatures with_pairs{
    .avx2 = true, .fma = true, .f16c = true, .avx512f = true, .avx512_bf16 = true};
constexpr CpuFeatures with_amx{.avx2 = true,
                               .fma = true,
                               .f16c = true,
                               .avx512f = true,
                               .avx512_bf16 = true,
                               .amx_tile = true,
                               .amx_bf16 = true,
                               .tiles_permitted = true};
constexpr CpuFeatures without_permission{.avx2 = true,
                                         .fma = true,
                                         .f16c = true,
                                         .avx512f = true,
                                         .avx512_bf16 = true,
                                         .amx_tile = true,
                                         .amx_bf16 = true};

std::string refusal(std::string_view wanted, const CpuFeatures& cpu, ErrorCode code) {
  try {
    static_cast<void>(chosen_instruction_set(wanted, cpu));
  } catch (const error& e) {
    CHECK(e.code() == code);
    return e.what();
  }
  return "none";
}

} // namespace

TEST_CASE("The best instruction set that a processor has is taken") {
  CHECK(chosen_instruction_set("", old_processor) == InstructionSet::portable);
  CHECK(chosen_instruction_set("", with_avx2) == InstructionSet::avx2);
  CHECK(chosen_instruction_set("", with_avx512) == InstructionSet::avx512);
  CHECK(chosen_instruction_set("", with_amx) == InstructionSet::amx);
  CHECK(chosen_instruction_set("", with_pairs) == InstructionSet::avx512_bf16);
  CHECK(chosen_instruction_set("", without_permission) == InstructionSet::avx512_bf16);
  CHECK(chosen_instruction_set("", {.avx2 = true}) == InstructionSet::portable); // without FMA
}

TEST_CASE("A wish is granted where the processor has the instructions") {
  CHECK(chosen_instruction_set("portable", with_avx512) == InstructionSet::portable);
  CHECK(chosen_instruction_set("avx2", with_avx512) == InstructionSet::avx2);
  CHECK(chosen_instruction_set("avx512", with_avx512) == InstructionSet::avx512);
  CHECK(chosen_instruction_set("avx512", with_amx) == InstructionSet::avx512);
  CHECK(chosen_instruction_set("avx512_bf16", with_amx) == InstructionSet::avx512_bf16);
  CHECK(chosen_instruction_set("amx", with_amx) == InstructionSet::amx);
}

TEST_CASE("A wish that cannot be granted is refused with what could be") {
  CHECK(refusal("avx512", with_avx2, ErrorCode::unsupported) ==
        "TENON_INSTRUCTION_SET=avx512: this processor has avx2 fma f16c; leave the variable unset, or set it "
        "to avx2");
  CHECK(
      refusal("avx2", old_processor, ErrorCode::unsupported) ==
      "TENON_INSTRUCTION_SET=avx2: this processor has none; leave the variable unset, or set it to portable");
  CHECK(refusal("amx", without_permission, ErrorCode::unsupported) ==
        "TENON_INSTRUCTION_SET=amx: this processor has avx2 fma f16c avx512f avx512_bf16 amx_tile amx_bf16; "
        "leave the variable unset, or set it to avx512_bf16");
  CHECK(
      refusal("sse9", with_avx2, ErrorCode::bad_argument) ==
      "TENON_INSTRUCTION_SET=sse9: expected portable, avx2, avx512, avx512_bf16 or amx, or no such variable");
}
