// SPDX-License-Identifier: Apache-2.0
// Which adapters' tensors lie in a device's memory. An adapter is copied there when it is loaded, or when a guard first
// attaches it, and is then the guard's alone; what the device reads of it (LoRA's factors, biases), and nothing else, goes
// over a lane of its own, beside what computes. What is loaded stays until it is evicted. Threads: any.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/memory/buffer.hpp>
#include <tenon/session/device.hpp>
#include <tenon/session/device_share.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace tenon {

/// Bytes of an adapter that a slot's terms view: where they lie on the host, and where they go, from the first on.
struct AdapterPiece {
  const std::byte* host = nullptr;
  std::int64_t bytes = 0;
  std::int64_t offset = 0;
};

/// What a device reads, by ascending address; each byte once, however many terms view it.
[[nodiscard]] inline std::vector<AdapterPiece> adapter_pieces(const AdapterData& adapter) {
  std::vector<AdapterPiece> all;
  const auto add = [&all](const void* data, std::int64_t bytes) {
    if (data != nullptr && bytes > 0) all.push_back({static_cast<const std::byte*>(data), bytes});
  };
  const auto add_matrix = [&add](const kernels::WeightMatrix& m) {
    add(m.data, ((m.rows - 1) * m.stride + m.cols) * dtype_bytes(m.dtype));
  };
  for (const SlotFactors& factors : adapter.factors) {
    if (!is_read_on_device(factors) || has_delta_at(adapter, factors.slot)) continue;
    add_matrix(factors.a);
    add_matrix(factors.b);
    add(factors.row_gain, factors.b.rows * dtype_bytes(DType::f32));
    add(factors.rank_gain, factors.a.rows * dtype_bytes(DType::f32));
  }
  for (const SlotBias& bias : adapter.biases)
    if (is_read_on_device(bias)) add(bias.values.data, bias.values.size * dtype_bytes(bias.values.dtype));
  sort_by(all, [](const AdapterPiece& a, const AdapterPiece& b) { return std::less<>{}(a.host, b.host); });

  std::vector<AdapterPiece> pieces;
  for (const AdapterPiece& next : all) {
    if (!pieces.empty() && next.host < pieces.back().host + pieces.back().bytes) {
      AdapterPiece& last = pieces.back();
      last.bytes = std::max(last.bytes, next.host - last.host + next.bytes);
    } else {
      pieces.push_back(next);
    }
  }
  std::int64_t offset = 0;
  for (AdapterPiece& piece : pieces) {
    piece.offset = offset;
    offset += on_device_boundary(piece.bytes);
  }
  return pieces;
}

/// What they take on a device.
[[nodiscard]] inline std::int64_t bytes_of(const std::vector<AdapterPiece>& pieces) noexcept {
  return pieces.empty() ? 0 : pieces.back().offset + on_device_boundary(pieces.back().bytes);
}

/// An adapter's tensors in device memory.
class ResidentAdapter {
 public:
  /// Throws as Buffer and DeviceLane do.
  ResidentAdapter(std::shared_ptr<const AdapterData> adapter, Ledger& device_ledger, DeviceLane& lane)
      : adapter_(std::move(adapter)), pieces_(adapter_pieces(*adapter_)),
        bytes_(device_ledger, Category::adapter, bytes_of(pieces_), "load an adapter") {
    for (const AdapterPiece& piece : pieces_)
      lane.upload(bytes_.data() + piece.offset, {piece.host, static_cast<std::size_t>(piece.bytes)});
  }

  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_.bytes(); }

  /// The same views of the copies.
  void place(kernels::LowRankTerm& term) const noexcept {
    term.a.data = at(term.a.data);
    term.b.data = at(term.b.data);
    term.row_gain = at(term.row_gain);
    term.rank_gain = at(term.rank_gain);
  }
  void place(kernels::BiasTerm& term) const noexcept { term.values.data = at(term.values.data); }

 private:
  /// Precondition: null, or an address that a piece covers.
  template <class T>
  [[nodiscard]] const T* at(const T* view) const noexcept {
    if (view == nullptr) return nullptr;
    const auto* const address = reinterpret_cast<const std::byte*>(view);
    const auto after = std::upper_bound(
        pieces_.begin(), pieces_.end(), address,
        [](const std::byte* key, const AdapterPiece& piece) { return std::less<>{}(key, piece.host); });
    const AdapterPiece& piece = *std::prev(after);
    return reinterpret_cast<const T*>(bytes_.data() + piece.offset + (address - piece.host));
  }

  std::shared_ptr<const AdapterData> adapter_; ///< whose addresses the pieces are found by
  std::vector<AdapterPiece> pieces_;
  Buffer bytes_;
};

/// Of one model's adapters on its device.
class Residency {
 public:
  Residency(Device& owner, Ledger& host_ledger, Ledger& device_ledger)
      : device_ledger_(device_ledger), lane_(owner.make_lane(host_ledger)) {}

  /// The adapter on the device, copied there unless it is there. `lane` computes with it from now on. Throws as
  /// ResidentAdapter does; nothing has changed then.
  [[nodiscard]] std::shared_ptr<const ResidentAdapter> use(const std::shared_ptr<const AdapterData>& adapter,
                                                           DeviceLane& lane) {
    const std::scoped_lock lock(mutex_);
    auto resident = find_or_copy(adapter);
    lane.come_after(*lane_);
    return resident;
  }
  /// Copies it unless it is there, and keeps it. Returns when the host's part is done: what computes goes on.
  void prefetch(const std::shared_ptr<const AdapterData>& adapter) {
    const std::scoped_lock lock(mutex_);
    auto resident = find_or_copy(adapter);
    find(adapter.get())->kept = std::move(resident);
  }
  /// `prefetch`, and waits until it is there.
  void load(const std::shared_ptr<const AdapterData>& adapter) {
    prefetch(adapter);
    const std::scoped_lock lock(mutex_);
    lane_->wait();
  }
  /// Its device memory goes back. Throws `error{wrong_state}` while it is attached.
  void evict(const std::shared_ptr<const AdapterData>& adapter) {
    const std::scoped_lock lock(mutex_);
    const auto entry = find(adapter.get());
    if (entry == entries_.end() || entry->kept == nullptr) return;
    if (entry->kept.use_count() > 1)
      throw error(ErrorCode::wrong_state, "evict: this adapter is attached; end its guards first");
    lane_->wait(); // a copy may still be writing there
    entries_.erase(entry);
  }
  /// What `lane` has to do now comes before all that a lane which `joins` from now on does: weights that are restored,
  /// before another session reads them. No thread waits.
  void leave(DeviceLane& lane) {
    const std::scoped_lock lock(mutex_);
    lane_->come_after(lane);
  }
  void join(DeviceLane& lane) {
    const std::scoped_lock lock(mutex_);
    lane.come_after(*lane_);
  }
  [[nodiscard]] bool is_resident(const AdapterData& adapter) const {
    const std::scoped_lock lock(mutex_);
    return std::any_of(entries_.begin(), entries_.end(), [&adapter](const Entry& entry) {
      return entry.key == &adapter && !entry.resident.expired();
    });
  }
  [[nodiscard]] DeviceCounts counts() const noexcept {
    const std::scoped_lock lock(mutex_);
    return lane_->counts();
  }

 private:
  struct Entry {
    const AdapterData* key = nullptr;
    std::weak_ptr<const ResidentAdapter> resident{};
    std::shared_ptr<const ResidentAdapter> kept{};
  };

  [[nodiscard]] std::vector<Entry>::iterator find(const AdapterData* key) {
    return std::find_if(entries_.begin(), entries_.end(),
                        [key](const Entry& entry) { return entry.key == key; });
  }
  /// Its entry is then in the table.
  [[nodiscard]] std::shared_ptr<const ResidentAdapter>
  find_or_copy(const std::shared_ptr<const AdapterData>& adapter) {
    if (const auto entry = find(adapter.get()); entry != entries_.end())
      if (auto resident = entry->resident.lock()) return resident;
    std::erase_if(entries_, [](const Entry& entry) { return entry.resident.expired(); });
    entries_.reserve(entries_.size() + 1);
    auto fresh = std::make_shared<const ResidentAdapter>(adapter, device_ledger_, *lane_);
    entries_.push_back({adapter.get(), fresh});
    return fresh;
  }

  Ledger& device_ledger_;
  mutable std::mutex mutex_{};
  std::unique_ptr<DeviceLane> lane_;
  std::vector<Entry> entries_{};
};

} // namespace tenon
