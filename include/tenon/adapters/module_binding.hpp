// SPDX-License-Identifier: Apache-2.0
// One module of an adapter's file beside one module of a model: what the binding of every kind needs. Do the tensors
// fit, which rows are meant, what is the scale; magnitudes (DoRA) and biases, which come with any kind. The kinds
// themselves are bind_lora.hpp and its neighbours.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/adapters/adapter_file.hpp>
#include <tenon/adapters/prepared.hpp>
#include <tenon/adapters/row_share.hpp>
#include <tenon/adapters/targets.hpp>
#include <tenon/formats/name_table.hpp>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace tenon {

struct ModuleBinding {
  using Part = AdapterPart;

  const AdapterFile& file;
  const AdapterModule& module;
  const PeftConfig* config; ///< of the module's component, or null
  const AdapterTarget& target;
  const std::string& path; ///< of the target in the model
  std::int32_t slot;
  NamedModule name;
  std::int64_t rank; ///< of the adapter's type, or any
  std::optional<DoraStrength> dora_strength;
  AdapterData& data; ///< what is bound is appended to it, what does not fit to its report
  PreparedMatrices prepared;

  void add(FindingKind kind, std::string_view key, std::string what) const {
    data.report.findings.push_back({kind, std::string(key), std::move(what)});
  }
  [[nodiscard]] const CheckpointTensor* find(Part part) const noexcept { return module.find(part); }
  /// The tensor, with a finding where it is missing.
  [[nodiscard]] const CheckpointTensor* need(Part part) const {
    const CheckpointTensor* const tensor = find(part);
    if (tensor == nullptr)
      add(FindingKind::incomplete, module.key(),
          concat("its partner ", adapter_part_name(part), " is missing"));
    return tensor;
  }
  [[nodiscard]] bool has_factor_dtype(const CheckpointTensor& tensor) const {
    if (is_factor_dtype(tensor.view.dtype)) return true;
    add(FindingKind::wrong_dtype, tensor.name,
        concat("expected F32, F16, BF16, F8_E4M3 or F8_E5M2, got ", dtype_name(tensor.view.dtype)));
    return false;
  }
  /// Its first dimension as rows, the others together as columns; a finding if it is not `rows` x `cols`.
  [[nodiscard]] std::optional<kernels::WeightMatrix> matrix(const CheckpointTensor& tensor, std::int64_t rows,
                                                            std::int64_t cols, std::string_view dims) const {
    const bool is_readable = has_factor_dtype(tensor);
    const kernels::WeightMatrix flat = flat_matrix(tensor.view);
    if (flat.rows != rows || flat.cols != cols) {
      const std::array<std::int64_t, 2> expected{rows, cols};
      add(FindingKind::wrong_shape, tensor.name,
          concat("expected ", shape_text(expected), " ", dims, ", got ", shape_text(tensor.view.shape())));
      return std::nullopt;
    }
    return is_readable ? std::optional(flat) : std::nullopt;
  }
  [[nodiscard]] std::optional<kernels::WeightVector> vector(const CheckpointTensor& tensor, std::int64_t size,
                                                            std::string_view dims) const {
    if (tensor.view.size() != size) {
      add(FindingKind::wrong_shape, tensor.name,
          concat("expected ", size, " elements ", dims, ", got ", shape_text(tensor.view.shape())));
      return std::nullopt;
    }
    return has_factor_dtype(tensor) ? std::optional(flat_vector(tensor.view)) : std::nullopt;
  }

  /// `.scale`, else alpha / rank, else the configuration's, else 1; times a learned scalar.
  [[nodiscard]] double scale_for(std::int64_t own_rank) const {
    double scale = 1;
    if (const CheckpointTensor* const given = find(Part::scale)) {
      scale = number_in(*given);
    } else if (const CheckpointTensor* const alpha = find(Part::alpha)) {
      const double value = number_in(*alpha);
      scale = value == 0 ? 1 : value / static_cast<double>(own_rank); // stored 0: alpha was never set
    } else if (config != nullptr && config->rank > 0) {
      scale = config->scale_of(module.name);
    }
    return scale * scalar_only();
  }
  /// What LyCORIS learned as a factor of the whole delta.
  [[nodiscard]] double scalar_only() const {
    const CheckpointTensor* const scalar = find(Part::scalar);
    return scalar == nullptr ? 1 : number_in(*scalar);
  }

  /// Which rows a tensor of `file_rows` rows is for; a finding where that cannot be.
  [[nodiscard]] std::optional<RowShare> share_of(std::int64_t file_rows,
                                                 const CheckpointTensor& tensor) const {
    if (const std::optional<RowShare> share = row_share(name, target.rows, file_rows)) return share;
    const std::string rows = name.share == NameShare::part
                                 ? concat("rows of projection ", name.part + 1, " of ", name.parts,
                                          " of a weight with ", target.rows, " rows")
                                 : concat(target.rows, " rows [out, rank]");
    add(FindingKind::wrong_shape, tensor.name,
        concat("expected ", rows, ", got ", shape_text(tensor.view.shape())));
    return std::nullopt;
  }
  [[nodiscard]] std::optional<RowShare> share_of_bias(const CheckpointTensor& tensor) const {
    const std::int64_t size = tensor.view.size();
    const bool is_turned =
        config != nullptr && config->fan_in_fan_out; // the weight's columns are the outputs
    const std::int64_t whole = target.bias > 0 ? target.bias : is_turned ? target.cols : target.rows;
    const bool has_all_outputs = name.share == NameShare::whole || name.share == NameShare::columns;
    if (has_all_outputs && size == whole) return RowShare{0, size, 0};
    return share_of(size, tensor);
  }
  /// Only LoRA and vectors can be cut or put together along the rows.
  [[nodiscard]] bool is_whole(std::string_view kind) const {
    if (name.share == NameShare::whole) return true;
    add(FindingKind::refused_kind, module.key(),
        concat(kind, " cannot be moved between one fused projection and several; convert it to LoRA first"));
    return false;
  }

  void matched(std::string_view kind, std::int64_t own_rank, double scale) const {
    data.report.matched.push_back({path, own_rank, scale, kind});
  }

  /// Adds a magnitude, if the module has one, and appends. `cut`: the rows of a fused projection that are meant.
  void append(SlotDelta delta, std::int64_t own_rank, std::string_view kind,
              const std::optional<RowShare>& cut = std::nullopt) {
    if (const CheckpointTensor* const magnitude = find(Part::magnitude)) {
      if (!set_magnitude(delta, *magnitude, cut)) return;
      matched(kind == "LoRA" ? std::string_view("DoRA") : kind, own_rank, delta.scale);
    } else {
      matched(kind, own_rank, delta.scale);
    }
    data.deltas.push_back(delta);
    bind_bias_parts(delta.scale);
  }

  /// Whether a magnitude has a number for each of the file's `rows`, which then go with their rows; one for each
  /// input has its norm over all rows, and cannot be taken apart.
  [[nodiscard]] bool is_row_magnitude(const CheckpointTensor& magnitude, std::int64_t rows) const {
    const TensorView& view = magnitude.view;
    return view.size() == rows &&
           (config != nullptr || view.rank == 1 || view.extent(0) != 1 || rows != target.in());
  }

  [[nodiscard]] bool set_magnitude(SlotDelta& delta, const CheckpointTensor& magnitude,
                                   const std::optional<RowShare>& cut) const {
    const TensorView& view = magnitude.view;
    const bool is_peft = config != nullptr;
    const bool is_turned = is_peft && config->fan_in_fan_out;
    const bool is_for_inputs = view.rank > 1 && view.extent(0) == 1 && view.size() == target.in() &&
                               !(is_peft && view.size() == target.rows);
    if (cut) {
      if (!has_factor_dtype(magnitude)) return false;
      delta.term.gain_axis = kernels::GainAxis::rows;
    } else if (is_for_inputs || is_turned || (view.size() != target.rows && view.size() == target.in())) {
      delta.term.gain_axis = kernels::GainAxis::cols;
      delta.columns_per_gain = target.positions;
      if (!vector(magnitude, target.in(), "[in]")) return false;
    } else {
      delta.term.gain_axis = kernels::GainAxis::rows;
      if (!vector(magnitude, target.rows, "[out]")) return false;
    }
    if (delta.kind == AdapterKind::lora) delta.kind = AdapterKind::dora;
    delta.gains = GainSource::magnitude;
    delta.vector = flat_vector(view);
    if (cut) delta.vector = {delta.vector.at(cut->file_row), delta.vector.dtype, cut->rows};
    const bool is_lycoris = !is_peft && magnitude.name.ends_with(".dora_scale");
    delta.dora_strength = dora_strength.value_or(is_lycoris ? DoraStrength::lycoris : DoraStrength::peft);
    return true;
  }

  /// `factor_scale`: that of B A, which a bias on B has too.
  bool bind_bias_parts(double factor_scale) {
    bool is_bound = false;
    for (const auto& [part, action] : {std::pair{Part::lora_bias, kernels::BiasAction::add},
                                       std::pair{Part::diff_bias, kernels::BiasAction::add},
                                       std::pair{Part::norm_bias, kernels::BiasAction::add},
                                       std::pair{Part::whole_bias, kernels::BiasAction::replace}}) {
      const CheckpointTensor* const tensor = find(part);
      if (tensor == nullptr) continue;
      if (target.bias == 0 && (action == kernels::BiasAction::replace || target.is_vector)) {
        add(FindingKind::refused_kind, tensor->name, "the module has no bias that it could change");
        continue;
      }
      const std::optional<RowShare> share = share_of_bias(*tensor);
      if (!share || !has_factor_dtype(*tensor)) continue;
      const double scale = part == Part::lora_bias ? factor_scale : 1;
      const kernels::WeightVector all = flat_vector(tensor->view);
      const auto cut = [&](std::int64_t from, std::int64_t count) {
        return kernels::WeightVector{all.at(from), all.dtype, count};
      };
      if (name.share == NameShare::swapped) {
        const std::int64_t half = target.rows / 2;
        data.biases.push_back({slot, cut(half, half), scale, action, 0});
        data.biases.push_back({slot, cut(0, half), scale, action, half});
      } else {
        data.biases.push_back({slot, cut(share->file_row, share->rows), scale, action, share->weight_row});
      }
      is_bound = true;
    }
    return is_bound;
  }
};

} // namespace tenon
