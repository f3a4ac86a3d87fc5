// SPDX-License-Identifier: Apache-2.0
// PEFT's GLoRA: W' = W + W (*) A + B element by element, b' = b + b (*) D + E + W C, with W and b pristine; the strength
// multiplies A to E. Each of A and B is Xd Xu [out, rank] [rank, in], a vector [out, 1] for all inputs, one number, or
// zeros; C is [in, rank] [rank, 1], a vector [in, 1] or zeros; D and E are a vector [out], one number or zeros. Row by
// row, so one projection of several can be cut or put together. Conventions: PEFT 0.21.2 tuners/glora/layer.py.
#pragma once

#include <tenon/adapters/module_binding.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tenon {

struct PeftGloraBinding : ModuleBinding {
  /// What the file has of one of A to E.
  struct Path {
    kernels::Factored factors{};              ///< Xd Xu, where it is a product
    kernels::WeightVector values{};           ///< one for each row, or a single one; empty for zeros
    const CheckpointTensor* tensor = nullptr; ///< for messages

    [[nodiscard]] bool is_none() const noexcept { return factors.empty() && values.empty(); }
    [[nodiscard]] bool is_number() const noexcept { return values.size == 1; }
  };
  struct Parts {
    Part whole;
    Part left;
    Part right;
  };
  static constexpr Parts a_parts{Part::glora_a, Part::glora_a_d, Part::glora_a_u};
  static constexpr Parts b_parts{Part::glora_b, Part::glora_b_d, Part::glora_b_u};
  static constexpr Parts c_parts{Part::glora_c, Part::glora_c_d, Part::glora_c_u};
  static constexpr Parts d_parts{Part::glora_d, Part::glora_d, Part::glora_d};
  static constexpr Parts e_parts{Part::glora_e, Part::glora_e, Part::glora_e};

  void bind() {
    if (name.share == NameShare::swapped) return static_cast<void>(is_whole("GLoRA"));
    const std::optional<RowShare> share = own_share();
    if (!share) return;
    const std::int64_t outputs = file_rows();
    const auto a = path(a_parts, outputs, target.cols, "[out, in]");
    const auto b = path(b_parts, outputs, target.cols, "[out, in]");
    const auto c = path(c_parts, target.cols, 1, "[in, 1]");
    const auto d = path(d_parts, outputs, 1, "[out]");
    const auto e = path(e_parts, outputs, 1, "[out]");
    if (!a || !b || !c || !d || !e) return;
    if (c->is_number() && target.cols != 1) // which no matrix product takes
      return add(FindingKind::wrong_shape, c->tensor->name,
                 concat("expected ", target.cols, " elements [in, 1], got 1"));
    bind_factor(*a, *share);
    bind_added(*b, *share);
    if (target.bias == target.rows) {
      bind_bias_path(*d, kernels::BiasAction::grow_by, *share);
      bind_bias_path(*e, kernels::BiasAction::add, *share);
      bind_of_weight(*c, *share);
    } else { // PEFT itself has zeros there for a module without a bias
      for (const Path* each : {&*c, &*d, &*e})
        if (!each->is_none())
          add(FindingKind::refused_kind, each->tensor->name,
              target.bias == 0 ? std::string("the module has no bias that it could change")
                               : concat("expected a bias of ", target.rows,
                                        " elements, one for each row of the weight, got ", target.bias));
    }
    std::int64_t own = 0;
    for (const Path* each : {&*c, &*b, &*a})
      if (!each->factors.empty()) own = each->factors.left.cols;
    matched("GLoRA", own, 1);
    bind_bias_parts(1);
  }

  /// A tensor that tells how many outputs the file's have; null where all are numbers.
  [[nodiscard]] const CheckpointTensor* telling_rows() const {
    for (const Part part :
         {Part::glora_a_d, Part::glora_b_d, Part::glora_a, Part::glora_b, Part::glora_d, Part::glora_e})
      if (const CheckpointTensor* const tensor = find(part);
          tensor != nullptr && flat_matrix(tensor->view).rows > 1)
        return tensor;
    return nullptr;
  }
  /// The same, where numbers alone do not tell: as many as the name means.
  [[nodiscard]] std::int64_t file_rows() const {
    if (const CheckpointTensor* const told = telling_rows()) return flat_matrix(told->view).rows;
    if (name.share != NameShare::part || name.slice.size == 0) return target.rows;
    return name.is_fused ? name.slice.total : name.slice.size;
  }
  [[nodiscard]] std::optional<RowShare> own_share() const {
    const CheckpointTensor* const told = telling_rows();
    if (told == nullptr && name.share == NameShare::part && name.slice.size == 0) {
      if (name.is_fused) return RowShare{0, target.rows, 0}; // the numbers are for every projection alike
      static_cast<void>(is_whole("GLoRA of numbers alone"));
      return std::nullopt;
    }
    return share_of(file_rows(), told != nullptr ? *told : *module.parts.front().tensor);
  }

  /// A finding and nothing where it is neither a product [rows, cols], nor a value for each row, a number or zeros.
  [[nodiscard]] std::optional<Path> path(Parts parts, std::int64_t rows, std::int64_t cols,
                                         std::string_view dims) const {
    const CheckpointTensor* const whole = find(parts.whole);
    const bool has_product = parts.left != parts.whole && (module.has(parts.left) || module.has(parts.right));
    if (has_product) {
      const CheckpointTensor* const left = need(parts.left);
      const CheckpointTensor* const right = need(parts.right);
      if (left == nullptr || right == nullptr) return std::nullopt;
      if (whole != nullptr) {
        add(FindingKind::duplicate, whole->name, concat("its module already has ", left->name));
        return std::nullopt;
      }
      const std::int64_t own = flat_matrix(right->view).rows;
      const auto xd = matrix(*left, rows, own, cols == 1 ? "[in, rank]" : "[out, rank]");
      const auto xu = matrix(*right, own, cols, cols == 1 ? "[rank, 1]" : "[rank, in]");
      if (!xd || !xu) return std::nullopt;
      return Path{.factors = {*xd, *xu}, .tensor = left};
    }
    if (whole == nullptr) return Path{};
    const std::int64_t size = whole->view.size();
    if (size != 1 && size != rows && size != rows * cols) {
      add(FindingKind::wrong_shape, whole->name,
          concat("expected ", rows, " elements, one number, or zeros for ", rows * cols, " ", dims, ", got ",
                 shape_text(whole->view.shape())));
      return std::nullopt;
    }
    if (!has_factor_dtype(*whole)) return std::nullopt;
    if (is_zero(flat_vector(whole->view))) return Path{};
    if (size != 1 && size != rows) {
      add(FindingKind::refused_kind, whole->name,
          "expected zeros, which PEFT stores where a setting is none, got other values");
      return std::nullopt;
    }
    return Path{.values = flat_vector(whole->view), .tensor = whole};
  }
  [[nodiscard]] static bool is_zero(const kernels::WeightVector& vector) {
    std::array<float, 64> values;
    for (std::int64_t i = 0; i < vector.size; i += std::ssize(values)) {
      const std::int64_t count = std::min(std::ssize(values), vector.size - i);
      decode(vector.dtype, vector.at(i), count, values.data());
      for (std::int64_t k = 0; k < count; ++k)
        if (values[static_cast<std::size_t>(k)] != 0.0f) return false;
    }
    return true;
  }
  [[nodiscard]] static float number_of(const Path& own) {
    float value = 0;
    decode(own.values.dtype, own.values.data, 1, &value);
    return value;
  }
  /// Of the file's rows those that are meant; a number as it is.
  [[nodiscard]] static kernels::WeightVector cut(const Path& own, const RowShare& share) {
    return own.is_number()
               ? own.values
               : kernels::WeightVector{own.values.at(share.file_row), own.values.dtype, share.rows};
  }

  /// W (*) A: a vector or a number are gains of W's rows.
  void bind_factor(const Path& a, const RowShare& share) {
    if (a.is_none()) return;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::glora};
    if (share.rows != target.rows) {
      delta.term.first_row = share.weight_row;
      delta.term.rows = share.rows;
    }
    if (a.factors.empty()) {
      delta.gains = GainSource::change;
      delta.term.gain_axis = kernels::GainAxis::rows;
      delta.vector = cut(a, share);
      delta.columns_per_gain = share.rows / delta.vector.size;
    } else {
      delta.term.form = kernels::DeltaForm::of_elements;
      delta.term.first = {rows_of(a.factors.left, share), a.factors.right};
    }
    data.deltas.push_back(delta);
  }
  /// B, which is LoRA; a vector or a number times ones.
  void bind_added(const Path& b, const RowShare& share) {
    if (b.is_none()) return;
    SlotFactors factors;
    factors.slot = slot;
    factors.first_row = share.weight_row;
    if (!b.factors.empty()) {
      factors.a = b.factors.right;
      factors.b = rows_of(b.factors.left, share);
    } else {
      factors.a = prepared.filled(1, target.cols, 1.0f);
      if (b.is_number()) {
        factors.scale = static_cast<double>(number_of(b));
        factors.b = prepared.filled(share.rows, 1, 1.0f);
      } else {
        const kernels::WeightVector own = cut(b, share);
        factors.b = {own.data, own.dtype, own.size, 1, 1};
      }
    }
    data.factors.push_back(factors);
  }
  [[nodiscard]] static kernels::WeightMatrix rows_of(const kernels::WeightMatrix& m, const RowShare& share) {
    return m.block(share.file_row, 0, share.rows, m.cols);
  }

  /// b (*) D or E. Where a trained bias takes b's place, D multiplies that one.
  void bind_bias_path(const Path& own, kernels::BiasAction action, const RowShare& share) {
    if (own.is_none()) return;
    SlotBias bias{.slot = slot, .values = cut(own, share), .action = action, .first_row = share.weight_row};
    const CheckpointTensor* const trained = find(Part::whole_bias);
    if (action == kernels::BiasAction::grow_by && trained != nullptr) {
      if (trained->view.size() != file_rows() || !is_factor_dtype(trained->view.dtype))
        return; // which bind_bias_parts says
      const kernels::WeightVector all = flat_vector(trained->view);
      const kernels::WeightMatrix column{all.at(share.file_row), all.dtype, share.rows, 1, 1};
      const kernels::WeightVector factor =
          own.is_number() ? prepared.filled_vector(share.rows, number_of(own)) : bias.values;
      bias.values = {prepared.scaled_rows(column, factor).data, DType::f32, share.rows};
      bias.action = kernels::BiasAction::add;
    } else if (own.is_number()) {
      bias.values = prepared.filled_vector(share.rows, number_of(own));
    }
    data.biases.push_back(bias);
  }
  /// W C: C as one vector, its product with W when it is attached.
  void bind_of_weight(const Path& c, const RowShare& share) {
    if (c.is_none()) return;
    const float* const column = c.factors.empty() ? prepared.floats_of(c.values)
                                                  : prepared.column_of(c.factors.left, c.factors.right);
    data.biases.push_back(
        {.slot = slot, .first_row = share.weight_row, .of_weight = column, .rows = share.rows});
  }
};

} // namespace tenon
