// SPDX-License-Identifier: Apache-2.0
// The account of every byte Tenon holds, by category, current and peak, with a budget over it.
// A program has one ledger (`process_ledger()`) unless it hands its own to `open` and `load_adapter`. What lies in a
// device's memory has an account of its own in it (`on_device`): the same categories, another budget.
// Cost: a few counters under a spin lock, touched when memory is taken or given back, never in a forward
// pass. Threads: every member may be called from any thread.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/spin_lock.hpp>
#include <tenon/core/text.hpp>
#include <tenon/memory/category.hpp>
#include <tenon/memory/memory_source.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace tenon {

class PeakScope;

inline constexpr std::string_view system_place = "the system";

/// Every byte held, by category. Immovable: buffers keep a pointer to it.
class Ledger {
 public:
  explicit Ledger(MemorySource source = system_memory()) noexcept : source_(source) {}
  /// An account of what another place than the system's memory gives, as messages call it.
  Ledger(MemorySource source, std::string_view place) : source_(source), place_(place) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  [[nodiscard]] const MemorySource& source() const noexcept { return source_; }
  /// "the system", or the device whose memory this counts.
  [[nodiscard]] std::string_view place() const noexcept { return place_; }

  /// The account of what `source`, a device's memory, gives; made when it is first asked for, and then always the
  /// same. Bytes in it are not this ledger's.
  [[nodiscard]] Ledger& on_device(const MemorySource& source, std::string_view place);
  /// Of the device that was asked for first, or null.
  [[nodiscard]] const Ledger* device() const noexcept {
    const SpinScope scope(lock_);
    return device_.get();
  }

  [[nodiscard]] BytesByCategory current() const noexcept {
    const SpinScope scope(lock_);
    return current_;
  }
  /// The highest value of each category since construction. They need not have been reached together:
  /// `peak_total` is the highest total.
  [[nodiscard]] BytesByCategory peak() const noexcept {
    const SpinScope scope(lock_);
    return peak_;
  }
  [[nodiscard]] std::int64_t peak_total() const noexcept {
    const SpinScope scope(lock_);
    return peak_total_;
  }

  /// No charge may lift `current().budgeted()` above `bytes`; negative (the default) means no limit.
  /// What is held already stays, even if it is more.
  void set_budget(std::int64_t bytes) noexcept {
    const SpinScope scope(lock_);
    budget_ = bytes;
  }
  [[nodiscard]] std::int64_t budget() const noexcept {
    const SpinScope scope(lock_);
    return budget_;
  }

  /// Refuses an operation before it begins: throws `budget_error` unless `asked` fits beside what is held.
  /// Changes nothing.
  void require(const BytesByCategory& asked, std::string_view operation) const {
    BytesByCategory held;
    std::int64_t budget = 0;
    {
      const SpinScope scope(lock_);
      if (fits(asked.budgeted())) return;
      held = current_;
      budget = budget_;
    }
    refuse(held, budget, asked.budgeted(), operation);
  }

  /// Whether `require` would let `asked` pass.
  [[nodiscard]] bool has_room_for(const BytesByCategory& asked) const noexcept {
    const SpinScope scope(lock_);
    return fits(asked.budgeted());
  }

  /// Enters `bytes`; throws `budget_error`, having changed nothing, if they do not fit the budget.
  void charge(Category category, std::int64_t bytes, std::string_view operation) {
    BytesByCategory asked;
    asked[category] = bytes;
    BytesByCategory held;
    std::int64_t budget = 0;
    {
      const SpinScope scope(lock_);
      if (fits(asked.budgeted())) return enter(category, bytes);
      held = current_;
      budget = budget_;
    }
    refuse(held, budget, asked.budgeted(), operation);
  }

  /// Takes back what `charge` entered.
  void discharge(Category category, std::int64_t bytes) noexcept {
    const SpinScope scope(lock_);
    current_[category] -= bytes;
  }

  /// A table for people: each category's current and peak bytes, the total, the budget; then those of devices.
  [[nodiscard]] std::string table() const;

 private:
  friend class PeakScope;

  [[nodiscard]] bool fits(std::int64_t asked) const noexcept {
    return budget_ < 0 || asked <= 0 || asked <= budget_ - current_.budgeted();
  }
  void enter(Category category, std::int64_t bytes) noexcept;
  [[noreturn]] void refuse(const BytesByCategory& held, std::int64_t budget, std::int64_t asked,
                           std::string_view operation) const;

  MemorySource source_;
  std::string place_{system_place};
  mutable SpinLock lock_{};
  BytesByCategory current_{};
  BytesByCategory peak_{};
  std::int64_t peak_total_ = 0;
  std::int64_t budget_ = -1;
  PeakScope* scopes_ = nullptr;
  std::unique_ptr<Ledger> device_{}; ///< and from there to the next device
};

/// The peak inside a scope: construct, run, read. Scopes may nest and overlap in any order.
class PeakScope {
 public:
  explicit PeakScope(Ledger& ledger) noexcept : ledger_(ledger) {
    const SpinScope scope(ledger_.lock_);
    start_ = peak_ = ledger_.current_;
    peak_total_ = start_.total();
    next_ = ledger_.scopes_;
    ledger_.scopes_ = this;
  }
  ~PeakScope() {
    const SpinScope scope(ledger_.lock_);
    PeakScope** link = &ledger_.scopes_;
    while (*link != this) link = &(*link)->next_;
    *link = next_;
  }
  PeakScope(const PeakScope&) = delete;
  PeakScope& operator=(const PeakScope&) = delete;

  /// The highest value of each category since the scope began, what was held before included.
  [[nodiscard]] BytesByCategory peak() const noexcept {
    const SpinScope scope(ledger_.lock_);
    return peak_;
  }
  /// The highest total since the scope began, less the total it began with.
  [[nodiscard]] std::int64_t peak_above_start() const noexcept {
    const SpinScope scope(ledger_.lock_);
    return peak_total_ - start_.total();
  }

 private:
  friend class Ledger;

  Ledger& ledger_;
  BytesByCategory start_{};
  BytesByCategory peak_{};
  std::int64_t peak_total_ = 0;
  PeakScope* next_ = nullptr;
};

inline void Ledger::enter(Category category, std::int64_t bytes) noexcept {
  const auto raise = [&](BytesByCategory& peak, std::int64_t& total) {
    if (current_[category] > peak[category]) peak[category] = current_[category];
    if (current_.total() > total) total = current_.total();
  };
  current_[category] += bytes;
  raise(peak_, peak_total_);
  for (PeakScope* scope = scopes_; scope != nullptr; scope = scope->next_)
    raise(scope->peak_, scope->peak_total_);
}

inline Ledger& Ledger::on_device(const MemorySource& source, std::string_view place) {
  auto fresh = std::make_unique<Ledger>(source, place); // before the lock, under which nothing may throw
  const SpinScope scope(lock_);
  for (std::unique_ptr<Ledger>* at = &device_;; at = &(*at)->device_) {
    if (*at == nullptr) *at = std::move(fresh);
    if ((*at)->source_ == source) return **at;
  }
}

inline void Ledger::refuse(const BytesByCategory& held, std::int64_t budget, std::int64_t asked,
                           std::string_view operation) const {
  const std::int64_t room = budget > held.budgeted() ? budget - held.budgeted() : 0;
  throw budget_error(ErrorCode::budget_exceeded,
                     concat(operation, ": asked for ", bytes_text(asked), " (", asked, " B)",
                            place_ == system_place ? "" : concat(" on ", place_), ", but the budget of ",
                            bytes_text(budget), " holds ", held_text(held), "; at most ", bytes_text(room),
                            " (", room, " B) would fit"));
}

inline std::string Ledger::table() const {
  const BytesByCategory now = current();
  const BytesByCategory top = peak();
  std::string out;
  const auto row = [&out](std::string_view name, std::string_view a, std::string_view b) {
    const auto pad = [&out](std::size_t width, std::size_t used) {
      out.append(width > used ? width - used : 1, ' ');
    };
    out += name;
    pad(16, name.size());
    pad(12, a.size());
    out += a;
    pad(12, b.size());
    out += b;
    out += '\n';
  };
  row("category", "current", "peak");
  for (std::size_t i = 0; i < category_count; ++i)
    row(category_name(static_cast<Category>(i)), bytes_text(now.bytes[i]), bytes_text(top.bytes[i]));
  row("total", bytes_text(now.total()), bytes_text(peak_total()));
  const std::int64_t limit = budget();
  row("budget", limit < 0 ? "none" : bytes_text(limit), "");
  if (const Ledger* const next = device()) out += concat("on ", next->place_, ":\n", next->table());
  return out;
}

/// The ledger used where none is given: bytes are a property of the process, so this one object is global.
[[nodiscard]] inline Ledger& process_ledger() noexcept {
  static Ledger ledger;
  return ledger;
}

} // namespace tenon
