// SPDX-License-Identifier: Apache-2.0
// Adapter<Net>: an adapter that was read for the net `Net`, and fits only sessions of that net: another is a
// compile error. A handle with a weight of its own; copies and scaled copies share the file's mapping.
// Threads: immutable, may be shared.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/graph/slot.hpp>

#include <memory>
#include <utility>

namespace tenon {

/// `Kind`: `Lora`, or `LoraOfRank<R>` for an adapter whose rank is part of its type.
template <class Net, class Kind = Lora>
class Adapter {
 public:
  using net = Net;
  using kind = Kind;

  /// Use `load_adapter<Net>(path)`.
  explicit Adapter(std::shared_ptr<const AdapterData> data, double weight = 1) noexcept
      : data_(std::move(data)), weight_(weight) {}

  /// The same adapter at `factor` times its present weight: `attach(tone, other.scaled(-0.5))`.
  [[nodiscard]] Adapter scaled(double factor) const noexcept { return Adapter(data_, weight_ * factor); }
  [[nodiscard]] double weight() const noexcept { return weight_; }

  /// What the file held and how it fitted.
  [[nodiscard]] const AdapterReport& report() const noexcept { return data_->report; }
  /// Bytes of the file's mapping, as they stand in the ledger.
  [[nodiscard]] std::int64_t bytes() const noexcept { return data_->file.bytes(); }
  [[nodiscard]] const std::shared_ptr<const AdapterData>& data() const noexcept { return data_; }

 private:
  std::shared_ptr<const AdapterData> data_;
  double weight_;
};

} // namespace tenon
