// SPDX-License-Identifier: Apache-2.0
// LoHa and LoKr: products of two arms, each whole, decomposed, or decomposed with a core. Conventions: LyCORIS 4.1.3
// modules/loha.py, modules/lokr.py; PEFT 0.21.2 tuners/loha/layer.py, tuners/lokr/layer.py.
#pragma once

#include <tenon/adapters/module_binding.hpp>

#include <cstdint>
#include <optional>

namespace tenon {

struct ProductBinding : ModuleBinding {
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
};

} // namespace tenon
