// SPDX-License-Identifier: Apache-2.0
// Adapter<Net>: an adapter that was read for the net `Net`, and fits only sessions of that net: another is a
// compile error. A handle with a weight of its own; copies and scaled copies share the file's mapping.
// Threads: immutable, may be shared.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/graph/lower.hpp>
#include <tenon/graph/slot.hpp>
#include <tenon/graph/tables.hpp>

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon {

/// `Kind`: `Lora`, or `LoraOfRank<R>` for an adapter whose rank is part of its type.
template <class Net, class Kind = Lora>
class Adapter {
 public:
  using net = Net;
  using kind = Kind;

  /// Use `load_adapter<Net>(path)`.
  explicit Adapter(std::shared_ptr<const AdapterData> data, double weight = 1,
                   std::shared_ptr<const std::vector<double>> slot_weights = nullptr) noexcept
      : data_(std::move(data)), weight_(weight), slot_weights_(std::move(slot_weights)) {}

  /// The same adapter at `factor` times its present weight: `attach(tone, other.scaled(-0.5))`.
  [[nodiscard]] Adapter scaled(double factor) const noexcept {
    return Adapter(data_, weight_ * factor, slot_weights_);
  }
  /// The same adapter with a factor of its own for each slot: `f(path)` of the slot's path in the net (weights
  /// by block, as some interfaces have them). A later call replaces an earlier one's factors.
  template <class F>
  [[nodiscard]] Adapter weighted(F f) const {
    const Program& program = program_of<Net>();
    std::vector<double> weights(static_cast<std::size_t>(program.slot_count));
    for (std::size_t i = 0; i < weights.size(); ++i)
      weights[i] = static_cast<double>(f(std::string_view(slot_path(program, static_cast<std::int64_t>(i)))));
    return Adapter(data_, weight_, std::make_shared<const std::vector<double>>(std::move(weights)));
  }
  [[nodiscard]] double weight() const noexcept { return weight_; }
  /// By slot; null where all are 1.
  [[nodiscard]] const std::shared_ptr<const std::vector<double>>& slot_weights() const noexcept {
    return slot_weights_;
  }

  /// What the file held and how it fitted.
  [[nodiscard]] const AdapterReport& report() const noexcept { return data_->report; }
  /// Bytes of the file's mapping and of what was prepared, as they stand in the ledger.
  [[nodiscard]] std::int64_t bytes() const noexcept { return data_->bytes(); }
  [[nodiscard]] const std::shared_ptr<const AdapterData>& data() const noexcept { return data_; }

 private:
  std::shared_ptr<const AdapterData> data_;
  double weight_;
  std::shared_ptr<const std::vector<double>> slot_weights_;
};

} // namespace tenon
