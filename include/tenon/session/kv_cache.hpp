// SPDX-License-Identifier: Apache-2.0
// KvCache<Net>: the keys and values of the tokens that a decoder has read, so that the next call computes only what is
// new. It belongs to one session and to what was attached there when it was filled. Of a model on a device it is the
// device's memory, and tokens are added to it there.
//   tn::KvCache cache{session, 512};          // room for 512 tokens
//   session.run(cache, prompt);
//   session.run(cache, next);                 // reads the prompt from the cache
#pragma once

#include <tenon/session/config.hpp>
#include <tenon/session/state_table.hpp>

#include <cstdint>

namespace tenon {

template <class Net, Config C>
class Session;

/// Not for two threads at once. It must not outlive its session's model.
template <class Net>
class KvCache {
 public:
  /// Room for `capacity` tokens of each of `batch` sequences, and scratch in the session to read them all: calls then
  /// allocate nothing. Both stand in the ledger of the model's memory. Throws `error{bad_argument}` for a net that keeps
  /// nothing, `budget_error`, `error{out_of_memory}`.
  template <Config C>
  KvCache(Session<Net, C>& session, std::int64_t capacity, std::int64_t batch = 1)
      : table_(session.state_.program(), session.device_ledger(), capacity, batch) {
    session.state_.workspace().reserve_for_states(capacity);
  }

  [[nodiscard]] std::int64_t capacity() const noexcept { return table_.capacity(); }
  /// Tokens of each sequence that are there.
  [[nodiscard]] std::int64_t tokens() const noexcept { return table_.tokens(); }
  [[nodiscard]] std::int64_t bytes() const noexcept { return table_.bytes(); }
  /// Forgets all tokens after the first `tokens`: a draft that was not taken, another question to one prompt.
  void keep(std::int64_t tokens) noexcept { table_.keep(tokens); }
  void clear() noexcept { table_.keep(0); }

 private:
  template <class OfNet, Config C>
  friend class Session;
  StateTable table_;
};

template <class Net, Config C>
KvCache(Session<Net, C>&, std::int64_t) -> KvCache<Net>;
template <class Net, Config C>
KvCache(Session<Net, C>&, std::int64_t, std::int64_t) -> KvCache<Net>;

} // namespace tenon
