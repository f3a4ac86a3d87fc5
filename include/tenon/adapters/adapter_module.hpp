// SPDX-License-Identifier: Apache-2.0
// The tensors that an adapter file has for one module, and the kind that they make.
#pragma once

#include <tenon/formats/adapter_part.hpp>
#include <tenon/graph/slot.hpp>
#include <tenon/weights/checkpoint.hpp>
#include <tenon/weights/convert.hpp>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

/// All tensors that an adapter file has for one module.
struct AdapterModule {
  struct Part {
    AdapterPart part;
    const CheckpointTensor* tensor;
  };

  std::string name{}; ///< as the file writes it, without the key's prefix
  std::string_view prefix{};
  std::string_view component{};
  std::string_view expert{};
  std::vector<Part> parts{};

  [[nodiscard]] const CheckpointTensor* find(AdapterPart part) const noexcept {
    for (const Part& own : parts)
      if (own.part == part) return own.tensor;
    return nullptr;
  }
  [[nodiscard]] bool has(AdapterPart part) const noexcept { return find(part) != nullptr; }
  /// Whether it changes the model's bias, beside whatever else it is.
  [[nodiscard]] bool has_bias() const noexcept {
    return has(AdapterPart::lora_bias) || has(AdapterPart::diff_bias) || has(AdapterPart::norm_bias) ||
           has(AdapterPart::whole_bias);
  }
  /// Any of its keys, for messages.
  [[nodiscard]] std::string_view key() const noexcept { return parts.front().tensor->name; }
};

/// The kind that a module's tensors make, as a bit of a slot's list; a magnitude beside them is DoRA besides.
/// Nothing where they make none (an alpha alone).
[[nodiscard]] inline std::optional<AdapterKind> kind_of(const AdapterModule& module) noexcept {
  using enum AdapterPart;
  for (const AdapterModule::Part& own : module.parts) {
    const AdapterPart p = own.part;
    if (p == lora_a || p == lora_b || p == lora_mid || p == lora_bias || p == embedding_a || p == embedding_b)
      return AdapterKind::lora;
    if (p >= hada_w1_a && p <= hada_t2) return AdapterKind::loha;
    if (p >= lokr_w1 && p <= lokr_t2) return AdapterKind::lokr;
    if (p == ia3_factor || p == ia3_on_input) return AdapterKind::ia3;
    if (p == boft_r || p == boft_s) return AdapterKind::boft;
    if (p == oft_blocks) return own.tensor->view.rank == 4 ? AdapterKind::boft : AdapterKind::oft;
    if (p == oft_diag || p == oft_r || p == oft_embedding_r) return AdapterKind::oft;
    if (p >= glora_a1 && p <= glora_e) return AdapterKind::glora;
    if (p == vera_lambda_b || p == vera_lambda_d) return AdapterKind::vera;
  }
  if (module.has(diff) || module.has(norm_weight) || module.has(whole_weight)) return AdapterKind::diff;
  if (module.has_bias()) return AdapterKind::bias;
  return std::nullopt;
}

/// The number in a tensor of one element, whatever its dtype (an alpha). Throws `load_error{bad_file}` for
/// another shape or dtype.
[[nodiscard]] inline double number_in(const CheckpointTensor& tensor) {
  const TensorView& view = tensor.view;
  if (view.size() == 1) {
    if (is_weight_dtype(view.dtype)) {
      float value = 0;
      decode(view.dtype, view.data, 1, &value);
      return value;
    }
    const auto as = [&view]<class T>(T value) {
      std::memcpy(&value, view.data, sizeof value);
      return static_cast<double>(value);
    };
    if (view.dtype == DType::f64) return as(double{});
    if (view.dtype == DType::i64) return as(std::int64_t{});
    if (view.dtype == DType::i32) return as(std::int32_t{});
    if (view.dtype == DType::boolean || view.dtype == DType::u8) return as(std::uint8_t{});
  }
  throw load_error(ErrorCode::bad_file, concat(tensor.name, ": expected one number, got ", view.text()),
                   {.key = std::string(tensor.name)});
}

} // namespace tenon
