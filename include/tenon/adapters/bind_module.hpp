// SPDX-License-Identifier: Apache-2.0
// One module of an adapter's file and one module of a model: which kind it is, whether its tensors fit, its scale,
// and the terms that follow. A function a kind. Sources of the conventions: PEFT 0.21.2 tuners/*/layer.py, LyCORIS
// 4.1.3 modules/*.py, kohya sd-scripts networks/lora.py and library/lora_utils.py.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/adapters/adapter_file.hpp>
#include <tenon/adapters/prepared.hpp>
#include <tenon/adapters/targets.hpp>
#include <tenon/formats/name_table.hpp>
#include <tenon/kernels/prepare_rotation.hpp>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace tenon {

/// Rows of the file's tensors that are meant, and where they go in the model's weight.
struct RowShare {
  std::int64_t file_row = 0;
  std::int64_t rows = 0;
  std::int64_t weight_row = 0;
};

struct ModuleBinder {
  AdapterFile& file;
  const AdapterModule& module;
  const PeftConfig* config;
  const AdapterTarget& target;
  const std::string& path;
  std::int32_t slot;
  NamedModule name;
  std::int64_t rank; ///< of the adapter's type, or any
  std::optional<DoraStrength> dora_strength;
  AdapterData& data;
  PreparedMatrices prepared;

  /// Appends to the data, or to its report's findings.
  void bind() {
    const std::size_t before = data.report.findings.size();
    refuse_parts();
    const std::optional<AdapterKind> kind = kind_of(module);
    if (!kind) {
      if (data.report.findings.size() == before)
        add(FindingKind::incomplete, module.key(),
            "it stands alone: the tensors that it belongs to are missing");
      return;
    }
    if (data.report.findings.size() != before || !accepted(*kind)) return;
    if (*kind == AdapterKind::lora && config != nullptr && config->is_dora &&
        need(Part::magnitude) == nullptr)
      return;
    switch (*kind) {
    case AdapterKind::lora:
      return bind_lora();
    case AdapterKind::loha:
      return bind_loha();
    case AdapterKind::lokr:
      return bind_lokr();
    case AdapterKind::ia3:
      return bind_ia3();
    case AdapterKind::oft:
    case AdapterKind::boft:
      return bind_rotation(*kind);
    case AdapterKind::glora:
      return bind_glora();
    case AdapterKind::vera:
      return bind_vera();
    case AdapterKind::diff:
      return bind_diff();
    case AdapterKind::bias:
      return bind_bias();
    case AdapterKind::dora:
      return;
    }
  }

 private:
  using Part = AdapterPart;

  void add(FindingKind kind, std::string_view key, std::string what) const {
    data.report.findings.push_back({kind, std::string(key), std::move(what)});
  }
  [[nodiscard]] const CheckpointTensor* find(Part part) const noexcept { return module.find(part); }

  /// Parts that change the result and that nothing here applies.
  void refuse_parts() const {
    for (const Part part : {Part::sparse_indices, Part::sparse_values, Part::sparse_size, Part::time_gamma,
                            Part::time_beta, Part::lokr_t1, Part::glora_bm})
      if (const CheckpointTensor* const tensor = find(part))
        add(FindingKind::refused_kind, tensor->name, concat(adapter_part_name(part), " is not supported"));
  }
  [[nodiscard]] bool accepted(AdapterKind kind) const {
    const bool has_bias_part = module.has(Part::diff_bias) || module.has(Part::norm_bias) ||
                               module.has(Part::whole_bias) || module.has(Part::lora_bias);
    std::string refused;
    const auto need = [&](AdapterKind wanted) {
      if (!slot_accepts(target.kinds, wanted))
        refused += concat(refused.empty() ? "" : " and ", adapter_kind_name(wanted));
    };
    need(kind);
    if (module.has(Part::magnitude)) need(AdapterKind::dora);
    if (has_bias_part && kind != AdapterKind::bias) need(AdapterKind::bias);
    if (refused.empty()) return true;
    add(FindingKind::refused_kind, module.key(),
        concat("it is ", refused, "; the slot accepts ", slot_kinds_text(target.kinds)));
    return false;
  }

  // --- what all kinds need ------------------------------------------------------------------------
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
    if (const CheckpointTensor* const scalar = find(Part::scalar)) scale *= number_in(*scalar);
    return scale;
  }

  /// Which rows a tensor of `file_rows` rows is for; a finding where that cannot be.
  [[nodiscard]] std::optional<RowShare> share_of(std::int64_t file_rows,
                                                 const CheckpointTensor& tensor) const {
    if (name.share == NameShare::whole || name.share == NameShare::swapped) {
      if (file_rows == target.rows) return RowShare{0, file_rows, 0};
    } else if (name.is_fused) {
      const std::int64_t first =
          name.part + 1 == name.parts ? file_rows - target.rows : name.part * target.rows;
      if (first >= 0 && first + target.rows <= file_rows) return RowShare{first, target.rows, 0};
    } else {
      const std::int64_t first =
          name.part + 1 == name.parts ? target.rows - file_rows : name.part * file_rows;
      if (first >= 0 && first + file_rows <= target.rows) return RowShare{0, file_rows, first};
    }
    if (name.share == NameShare::part)
      add(FindingKind::wrong_shape, tensor.name,
          concat("expected rows of projection ", name.part + 1, " of ", name.parts, " of a weight with ",
                 target.rows, " rows, got ", shape_text(tensor.view.shape())));
    else
      add(FindingKind::wrong_shape, tensor.name,
          concat("expected ", target.rows, " rows [out, rank], got ", shape_text(tensor.view.shape())));
    return std::nullopt;
  }
  [[nodiscard]] std::optional<RowShare> share_of_bias(const CheckpointTensor& tensor) const {
    const std::int64_t size = tensor.view.size();
    const bool is_turned =
        config != nullptr && config->fan_in_fan_out; // the weight's columns are the outputs
    const std::int64_t whole = target.bias > 0 ? target.bias : is_turned ? target.cols : target.rows;
    if (name.share == NameShare::whole && size == whole) return RowShare{0, size, 0};
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

  // --- LoRA -----------------------------------------------------------------------------------------
  void bind_lora() {
    if (module.has(Part::embedding_a) || module.has(Part::embedding_b))
      return bind_turned_lora(Part::embedding_a, Part::embedding_b);
    if (config != nullptr && config->fan_in_fan_out) return bind_turned_lora(Part::lora_a, Part::lora_b);
    const CheckpointTensor* const a = find(Part::lora_a);
    const CheckpointTensor* const b = find(Part::lora_b);
    if (a == nullptr || b == nullptr) {
      static_cast<void>(a == nullptr ? need(Part::lora_a) : need(Part::lora_b));
      return;
    }
    if (const CheckpointTensor* const mid = find(Part::lora_mid)) return bind_tucker(*a, *b, *mid);
    const std::int64_t own = lora_rank(*a);
    const std::optional<kernels::WeightMatrix> down = matrix(*a, own, target.cols, "[rank, in]");
    std::optional<kernels::WeightMatrix> up;
    std::optional<RowShare> share;
    if (name.share == NameShare::part) {
      const std::int64_t rows = flat_matrix(b->view).rows;
      up = matrix(*b, rows, own, "[out, rank]");
      share = share_of(rows, *b);
    } else {
      up = matrix(*b, target.rows, own, "[out, rank]");
      share = RowShare{0, target.rows, 0};
    }
    if (!check_rank(*a, own) || !down || !up || !share) return;
    const double scale = scale_for(own);
    if (const CheckpointTensor* const magnitude = find(Part::magnitude)) {
      const bool is_cut = is_row_magnitude(*magnitude, flat_matrix(b->view).rows) &&
                          name.share == NameShare::part && name.is_fused;
      if (!is_cut && !is_whole("DoRA")) return;
      SlotDelta delta{.slot = slot, .kind = AdapterKind::lora, .scale = scale};
      delta.term.form = kernels::DeltaForm::plain;
      delta.term.first = {up->block(share->file_row, 0, share->rows, own), *down};
      return append(delta, own, "LoRA", is_cut ? share : std::nullopt);
    }
    if (name.share == NameShare::swapped) {
      const std::int64_t half = target.rows / 2;
      data.factors.push_back({slot, *down, up->block(half, 0, half, own), scale, 0});
      data.factors.push_back({slot, *down, up->block(0, 0, half, own), scale, half});
    } else {
      data.factors.push_back(
          {slot, *down, up->block(share->file_row, 0, share->rows, own), scale, share->weight_row});
    }
    matched("LoRA", own, scale);
    bind_bias_parts(scale);
  }

  /// The configuration's, where there is one; else that of A.
  [[nodiscard]] std::int64_t lora_rank(const CheckpointTensor& a) const {
    return config != nullptr && config->type == PeftType::lora ? config->rank_of(module.name)
                                                               : flat_matrix(a.view).rows;
  }
  [[nodiscard]] bool check_rank(const CheckpointTensor& a, std::int64_t own) const {
    if (rank == any_rank || own == rank) return true;
    add(FindingKind::wrong_rank, a.name, concat("expected rank ", rank, " of the adapter's type, got ", own));
    return false;
  }

  /// The model's weight is [in, out], or a table [count, width] whose rows are looked up: the change is (B A)^T =
  /// A^T B^T.
  void bind_turned_lora(Part part_a, Part part_b) {
    const CheckpointTensor* const a = need(part_a);
    const CheckpointTensor* const b = need(part_b);
    if (a == nullptr || b == nullptr || !is_whole("LoRA of a transposed weight")) return;
    const std::int64_t own = lora_rank(*a);
    const auto down = matrix(*a, own, target.rows, "[rank, in]");
    const auto up = matrix(*b, target.cols, own, "[out, rank]");
    if (!check_rank(*a, own) || !down || !up) return;
    const double scale = scale_for(own);
    const kernels::WeightMatrix left = prepared.transposed(*down);
    const kernels::WeightMatrix right = prepared.transposed(*up);
    if (module.has(Part::magnitude)) {
      SlotDelta delta{.slot = slot, .kind = AdapterKind::lora, .scale = scale};
      delta.term.form = kernels::DeltaForm::plain;
      delta.term.first = {left, right};
      return append(delta, own, "LoRA");
    }
    data.factors.push_back({slot, right, left, scale, 0});
    matched("LoRA", own, scale);
    bind_bias_parts(scale);
  }

  /// A convolution's core [rank, rank, kernel] between A [rank, in] and B [out, rank].
  void bind_tucker(const CheckpointTensor& a, const CheckpointTensor& b, const CheckpointTensor& mid) {
    const std::int64_t own = flat_matrix(a.view).rows;
    const auto down = matrix(a, own, target.in(), "[rank, in]");
    const auto up = matrix(b, target.rows, own, "[out, rank]");
    const auto core = matrix(mid, own, own * target.positions, "[rank, rank, kernel]");
    if (!check_rank(a, own) || !down || !up || !core || !is_whole("LoRA with a core")) return;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::lora, .scale = scale_for(own)};
    delta.term.form = kernels::DeltaForm::plain;
    delta.term.first = {*up, prepared.times_core(*core, target.positions, *down)};
    if (module.has(Part::magnitude)) return append(delta, own, "LoRA");
    data.factors.push_back({slot, delta.term.first.right, *up, delta.scale, 0});
    matched("LoRA", own, delta.scale);
    bind_bias_parts(delta.scale);
  }

  // --- LoHa, LoKr -----------------------------------------------------------------------------------
  /// `w_a w_b`, or with a core t [i, j, kernel]: sum over i, j of t[i, j, p] w_a[i, out] w_b[j, in].
  [[nodiscard]] std::optional<kernels::Factored> arm(Part part_a, Part part_b, Part part_t, std::int64_t rows,
                                                     std::int64_t in) {
    const CheckpointTensor* const a = need(part_a);
    const CheckpointTensor* const b = need(part_b);
    if (a == nullptr || b == nullptr) return std::nullopt;
    const std::int64_t own = flat_matrix(b->view).rows;
    if (const CheckpointTensor* const t = find(part_t)) {
      const std::int64_t first = flat_matrix(a->view).rows;
      const auto left = matrix(*a, first, rows, "[rank, out]");
      const auto right = matrix(*b, own, in, "[rank, in]");
      const auto core = matrix(*t, first, own * target.positions, "[rank, rank, kernel]");
      if (!left || !right || !core) return std::nullopt;
      return kernels::Factored{prepared.transposed(*left),
                               prepared.times_core(*core, target.positions, *right)};
    }
    const auto left = matrix(*a, rows, own, "[out, rank]");
    const auto right = matrix(*b, own, in * target.positions, "[rank, in]");
    if (!left || !right) return std::nullopt;
    return kernels::Factored{*left, *right};
  }

  void bind_loha() {
    if (!is_whole("LoHa")) return;
    const auto first = arm(Part::hada_w1_a, Part::hada_w1_b, Part::hada_t1, target.rows, target.in());
    const auto second = arm(Part::hada_w2_a, Part::hada_w2_b, Part::hada_t2, target.rows, target.in());
    if (!first || !second) return;
    const std::int64_t own = flat_matrix(find(Part::hada_w1_b)->view).rows;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::loha, .scale = scale_for(own)};
    delta.term.form = kernels::DeltaForm::hadamard;
    delta.term.first = *first;
    delta.term.second = *second;
    append(delta, own, "LoHa");
  }

  void bind_lokr() {
    if (!is_whole("LoKr")) return;
    const std::int64_t before = std::ssize(data.report.findings);
    kernels::Factored first;
    std::int64_t own = 0; // the rank that alpha is divided by; none where both factors are whole
    if (const CheckpointTensor* const w1 = find(Part::lokr_w1)) {
      first.left = flat_matrix(w1->view);
      static_cast<void>(has_factor_dtype(*w1));
    } else {
      const CheckpointTensor* const a = need(Part::lokr_w1_a);
      const CheckpointTensor* const b = need(Part::lokr_w1_b);
      if (a == nullptr || b == nullptr) return;
      own = flat_matrix(b->view).rows;
      first.left = flat_matrix(a->view);
      if (!matrix(*a, first.left.rows, own, "[rows, rank]") || !has_factor_dtype(*b)) return;
      first.right = flat_matrix(b->view);
    }
    if (first.rows() <= 0 || target.rows % first.rows() != 0 || first.cols() <= 0 ||
        target.in() % first.cols() != 0)
      return add(FindingKind::wrong_shape, module.key(),
                 concat("expected a first factor whose sides divide ", target.rows, " and ", target.in(),
                        ", got ", first.rows(), " x ", first.cols()));
    const std::int64_t rows = target.rows / first.rows();
    const std::int64_t in = target.in() / first.cols();
    kernels::Factored second;
    if (const CheckpointTensor* const w2 = find(Part::lokr_w2)) {
      if (config != nullptr && w2->view.rank == 3)
        return add(
            FindingKind::refused_kind, w2->name,
            "PEFT's LoKr of a 1-d convolution with a whole second factor is no Kronecker product of the "
            "weight's two sides; train it with a smaller rank, which is");
      const auto whole = matrix(*w2, rows, in * target.positions, "[out / rows of w1, in / columns of w1]");
      if (!whole) return;
      second.left = *whole;
    } else {
      const auto product = arm(Part::lokr_w2_a, Part::lokr_w2_b, Part::lokr_t2, rows, in);
      if (!product) return;
      second = *product;
      if (own == 0) own = flat_matrix(find(Part::lokr_w2_b)->view).rows;
    }
    if (std::ssize(data.report.findings) != before) return;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::lokr};
    const bool is_whole_factors = own == 0 && config == nullptr; // alpha is then no scale
    delta.scale = is_whole_factors ? scalar_only() : scale_for(own == 0 ? 1 : own);
    delta.term.form = kernels::DeltaForm::kronecker;
    delta.term.first = first;
    delta.term.second = second;
    append(delta, own, "LoKr");
  }
  [[nodiscard]] double scalar_only() const {
    const CheckpointTensor* const scalar = find(Part::scalar);
    return scalar == nullptr ? 1 : number_in(*scalar);
  }

  // --- IA3 ------------------------------------------------------------------------------------------
  void bind_ia3() {
    if (!is_whole("IA3")) return;
    const CheckpointTensor* factor = find(Part::ia3_factor);
    SlotDelta delta{.slot = slot, .kind = AdapterKind::ia3};
    bool is_on_input = false;
    if (factor != nullptr) {
      delta.gains = GainSource::factor;
      is_on_input = config != nullptr && config->is_feedforward(module.name);
      if (config == nullptr) is_on_input = factor->view.rank > 1 && factor->view.extent(0) == 1;
    } else {
      factor = need(Part::whole_weight);
      const CheckpointTensor* const on_input = need(Part::ia3_on_input);
      if (factor == nullptr || on_input == nullptr) return;
      delta.gains = GainSource::change;
      is_on_input = number_in(*on_input) != 0;
    }
    const bool is_turned = config != nullptr && config->fan_in_fan_out;
    const bool is_of_columns = is_on_input != is_turned;
    delta.term.gain_axis = is_of_columns ? kernels::GainAxis::cols : kernels::GainAxis::rows;
    delta.columns_per_gain = is_of_columns ? target.positions : 1;
    if (!vector(*factor, is_of_columns ? target.in() : target.rows, is_on_input ? "[in]" : "[out]")) return;
    const bool scales_bias =
        delta.gains == GainSource::factor && !is_on_input; // y is multiplied, its bias too
    delta.vector = flat_vector(factor->view);
    data.deltas.push_back(delta);
    if (scales_bias && target.bias > 0)
      data.biases.push_back({slot, flat_vector(factor->view), 1, kernels::BiasAction::scale_by, 0});
    matched("IA3", 0, 1);
    bind_bias_parts(1);
  }

  // --- OFT, BOFT ------------------------------------------------------------------------------------
  void bind_rotation(AdapterKind kind) {
    const std::string_view kind_name = adapter_kind_name(kind);
    if (!is_whole(kind_name)) return;
    kernels::RotationSource source;
    const CheckpointTensor* blocks = nullptr;
    const CheckpointTensor* rescale = find(Part::rescale);
    const bool is_turned = module.has(Part::oft_embedding_r);
    if ((blocks = find(is_turned ? Part::oft_embedding_r : Part::oft_r)) != nullptr) {
      source.form = kernels::RotationForm::peft_oft;
      source.size = target.cols;
      source.blocks = flat_matrix(blocks->view);
      // b (b - 1) / 2 = elements
      while (source.block * (source.block - 1) / 2 < source.blocks.cols) ++source.block;
      if (config != nullptr) {
        source.coft_eps = config->constrained ? config->constraint : 0;
        source.neumann_terms = static_cast<int>(config->neumann_terms);
      }
    } else if ((blocks = find(Part::boft_r)) != nullptr) {
      if (blocks->view.rank != 4) return wrong_blocks(*blocks, "[stages, blocks, b, b]");
      source.form = kernels::RotationForm::peft_boft;
      source.size = target.cols;
      take_blocks(source, blocks->view, 1);
      rescale = find(Part::boft_s);
    } else {
      blocks = find(Part::oft_blocks) != nullptr ? find(Part::oft_blocks) : find(Part::oft_diag);
      if (blocks == nullptr) {
        static_cast<void>(need(Part::oft_blocks));
        return;
      }
      if (blocks->view.rank != 3 && blocks->view.rank != 4) return wrong_blocks(*blocks, "[blocks, b, b]");
      const bool is_kohya = module.prefix.starts_with("oft_"); // LyCORIS's have kohya's other prefixes
      source.form = kind == AdapterKind::boft ? kernels::RotationForm::lycoris_boft
                    : is_kohya                ? kernels::RotationForm::kohya_oft
                                              : kernels::RotationForm::lycoris_oft;
      source.size = target.rows;
      take_blocks(source, blocks->view, blocks->view.rank == 4 ? 1 : 0);
      if (const CheckpointTensor* const alpha = find(Part::alpha)) source.alpha = number_in(*alpha);
    }
    if (!has_factor_dtype(*blocks)) return;
    if (rescale != nullptr) {
      if (!vector(*rescale, target.rows, "[out]")) return;
      source.rescale = flat_vector(rescale->view);
    }
    try {
      check_rotation(source);
    } catch (const error& problem) {
      return add(FindingKind::wrong_shape, blocks->name, problem.what());
    }
    const std::int64_t floats = kernels::rotation_floats(source);
    data.rotations.push_back(std::make_unique<kernels::Rotation>(
        kernels::prepare_rotation(source, {prepared.floats(floats), static_cast<std::size_t>(floats)})));
    if (is_turned)
      turn_blocks(const_cast<float*>(data.rotations.back()->blocks), source); // NOLINT: just prepared
    SlotDelta delta{.slot = slot, .kind = kind};
    delta.term.rotation = data.rotations.back().get();
    data.deltas.push_back(delta);
    matched(kind_name, source.block, 1);
    bind_bias_parts(1);
  }
  static void take_blocks(kernels::RotationSource& source, const TensorView& view, int stage_axis) {
    source.stages = stage_axis == 1 ? view.extent(0) : 1;
    source.block = view.extent(view.rank - 1);
    const std::int64_t elements = view.extent(view.rank - 2) * source.block;
    source.blocks = {view.data, view.dtype, elements == 0 ? 0 : view.size() / elements, elements, elements};
  }
  /// R to R^T, block by block: right for one stage.
  static void turn_blocks(float* blocks, const kernels::RotationSource& source) {
    const std::int64_t b = source.block;
    for (std::int64_t n = 0; n < source.blocks.rows; ++n, blocks += b * b)
      for (std::int64_t i = 0; i < b; ++i)
        for (std::int64_t j = 0; j < i; ++j) std::swap(blocks[i * b + j], blocks[j * b + i]);
  }
  void wrong_blocks(const CheckpointTensor& blocks, std::string_view expected) const {
    add(FindingKind::wrong_shape, blocks.name,
        concat("expected ", expected, ", got ", shape_text(blocks.view.shape())));
  }

  // --- GLoRA, VeRA ----------------------------------------------------------------------------------
  /// Delta = b1 b2 + W a1 a2, and in older files b2 b1 + W a2 a1: the shapes tell.
  void bind_glora() {
    if (!is_whole("GLoRA")) return;
    const CheckpointTensor* a1 = need(Part::glora_a1);
    const CheckpointTensor* a2 = need(Part::glora_a2);
    const CheckpointTensor* b1 = need(Part::glora_b1);
    const CheckpointTensor* b2 = need(Part::glora_b2);
    if (a1 == nullptr || a2 == nullptr || b1 == nullptr || b2 == nullptr) return;
    const bool is_old =
        flat_matrix(b1->view).rows != target.rows ||
        (flat_matrix(b2->view).rows == target.rows && flat_matrix(a1->view).rows != target.in());
    if (is_old) {
      std::swap(a1, a2);
      std::swap(b1, b2);
    }
    const std::int64_t own = flat_matrix(b2->view).rows;
    const std::int64_t inner = flat_matrix(a2->view).rows;
    const auto up = matrix(*b1, target.rows, own, "[out, rank]");
    const auto down = matrix(*b2, own, target.cols, "[rank, in]");
    const auto left = matrix(*a1, target.in(), inner, "[in, rank]");
    const auto right = matrix(*a2, inner, target.in(), "[rank, in]");
    if (!up || !down || !left || !right) return;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::glora, .scale = scale_for(own)};
    delta.term.form = kernels::DeltaForm::plain;
    delta.term.first = {*up, *down};
    delta.term.of_weight = {*left, *right};
    delta.term.cols_per_input = target.positions;
    append(delta, own, "GLoRA");
  }

  /// Delta = (lambda_b * B) (lambda_d * A), with A and B that all modules share, cut to the module's size.
  void bind_vera() {
    if (!is_whole("VeRA")) return;
    const CheckpointTensor* const b_vector = need(Part::vera_lambda_b);
    const CheckpointTensor* const d_vector = need(Part::vera_lambda_d);
    if (b_vector == nullptr || d_vector == nullptr) return;
    const CheckpointTensor* const shared_a = file.vera_a();
    const CheckpointTensor* const shared_b = file.vera_b();
    if (shared_a == nullptr || shared_b == nullptr)
      return add(
          FindingKind::incomplete, module.key(),
          "the file has no base_model.vera_A and vera_B: they were left to a random generator; save the "
          "adapter with save_projection=True");
    const bool is_turned = config != nullptr && config->fan_in_fan_out;
    const std::int64_t out = is_turned ? target.cols : target.rows;
    const std::int64_t in = is_turned ? target.rows : target.cols;
    const std::int64_t own = d_vector->view.size();
    const kernels::WeightMatrix a = flat_matrix(shared_a->view);
    const kernels::WeightMatrix b = flat_matrix(shared_b->view);
    if (!vector(*b_vector, out, "[out]") || !has_factor_dtype(*d_vector) || !has_factor_dtype(*shared_a) ||
        !has_factor_dtype(*shared_b))
      return;
    if (a.rows < own || b.cols < own || a.cols < in || b.rows < out)
      return add(FindingKind::wrong_shape, shared_a->name,
                 concat("expected vera_A of at least ", own, " x ", in, " and vera_B of at least ", out,
                        " x ", own, ", got ", a.rows, " x ", a.cols, " and ", b.rows, " x ", b.cols));
    const kernels::WeightMatrix down = a.block(0, 0, own, in);
    const kernels::WeightMatrix up = b.block(0, 0, out, own);
    const kernels::WeightVector gains = flat_vector(b_vector->view);
    SlotFactors factors{
        .slot = slot, .a = down, .b = up, .rank_gain = prepared.floats_of(flat_vector(d_vector->view))};
    if (is_turned) { // the gains of rows are then those of A's columns
      factors.a = prepared.transposed(prepared.scaled_rows(up, gains));
      factors.b = prepared.transposed(down);
    } else {
      factors.row_gain = prepared.floats_of(gains);
    }
    data.factors.push_back(factors);
    matched("VeRA", own, 1);
    bind_bias_parts(1);
  }

  // --- differences and whole tensors ----------------------------------------------------------------
  void bind_diff() {
    const CheckpointTensor* whole = find(Part::whole_weight);
    const CheckpointTensor* const difference =
        find(Part::diff) != nullptr ? find(Part::diff) : find(Part::norm_weight);
    const CheckpointTensor& tensor = difference != nullptr ? *difference : *whole;
    if (name.share != NameShare::whole && !is_whole("a stored difference")) return;
    const auto values = matrix(tensor, target.rows, target.cols, "[out, in]");
    if (!values) return;
    SlotDelta delta{.slot = slot, .kind = AdapterKind::diff};
    delta.term.form = kernels::DeltaForm::plain;
    delta.term.first = {*values, {}};
    if (difference == nullptr) {
      delta.gains = GainSource::replace;
      delta.term.gain_axis = kernels::GainAxis::rows;
    }
    if (find(Part::scalar) != nullptr) delta.scale = scalar_only();
    append(delta, 0, difference != nullptr ? "diff" : "whole weight");
  }

  void bind_bias() {
    if (bind_bias_parts(scale_for_bias())) matched("bias", 0, 1);
  }
  [[nodiscard]] double scale_for_bias() const { return config != nullptr ? scale_for(1) : 1; }

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
