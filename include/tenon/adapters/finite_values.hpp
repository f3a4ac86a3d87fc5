// SPDX-License-Identifier: Apache-2.0
// Whether an adapter's values are all numbers. A NaN in one factor would spread over a whole row of every output,
// and a merge would store it. Cost: one read of the file; pages are let go again, so that a look at 350 MB
// leaves no 350 MB behind.
#pragma once

#include <tenon/adapters/report.hpp>
#include <tenon/weights/checkpoint.hpp>
#include <tenon/weights/file_handle.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

namespace tenon {

/// Where the first of `count` words has all bits of `exponent` (which is NaN or infinity), or -1.
template <class Word>
[[nodiscard]] std::int64_t first_not_finite(const std::byte* data, std::int64_t count,
                                            Word exponent) noexcept {
  constexpr std::int64_t block = 4096;
  for (std::int64_t i = 0; i < count; i += block) {
    const std::int64_t end = std::min(count, i + block);
    Word any = 0;
    for (std::int64_t k = i; k < end; ++k) {
      Word word;
      std::memcpy(&word, data + k * static_cast<std::int64_t>(sizeof(Word)), sizeof(Word));
      any = static_cast<Word>(any | static_cast<Word>((word & exponent) == exponent ? 1 : 0));
    }
    if (any == 0) continue;
    for (std::int64_t k = i; k < end; ++k) {
      Word word;
      std::memcpy(&word, data + k * static_cast<std::int64_t>(sizeof(Word)), sizeof(Word));
      if ((word & exponent) == exponent) return k;
    }
  }
  return -1;
}

/// The position of the first value that is no number, or -1. Whole numbers always are.
[[nodiscard]] inline std::int64_t first_not_finite(const TensorView& view) noexcept {
  const std::int64_t count = view.size();
  if (view.dtype == DType::f32) return first_not_finite<std::uint32_t>(view.data, count, 0x7f800000U);
  if (view.dtype == DType::bf16) return first_not_finite<std::uint16_t>(view.data, count, 0x7f80U);
  if (view.dtype == DType::f16) return first_not_finite<std::uint16_t>(view.data, count, 0x7c00U);
  if (view.dtype == DType::f64) return first_not_finite<std::uint64_t>(view.data, count, 0x7ff0000000000000U);
  if (view.dtype == DType::f8_e5m2) return first_not_finite<std::uint8_t>(view.data, count, 0x7cU);
  if (view.dtype == DType::f8_e4m3) return first_not_finite<std::uint8_t>(view.data, count, 0x7fU);
  return -1;
}

/// Whether all its values are numbers; adds a finding if not.
[[nodiscard]] inline bool check_values(const CheckpointTensor& tensor, AdapterReport& report) {
  const std::int64_t at = first_not_finite(tensor.view);
  if (at >= 0)
    report.findings.push_back({FindingKind::not_finite, std::string(tensor.name),
                               concat("its value number ", at, " is NaN or infinite")});
  drop_pages({.data = tensor.view.data, .bytes = static_cast<std::size_t>(tensor.view.bytes())});
  return at < 0;
}

} // namespace tenon
