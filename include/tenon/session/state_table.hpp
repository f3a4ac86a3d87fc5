// SPDX-License-Identifier: Apache-2.0
// What steps keep from one call to the next (keys and values of attentions), below its type: one buffer of the model's
// memory, in its ledger, how many tokens it holds, and under which adapters they were computed. Used after another adapter
// was attached it is an error and not a wrong answer.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/graph/program.hpp>
#include <tenon/memory/buffer.hpp>

#include <algorithm>
#include <cstdint>

namespace tenon {

class StateTable {
 public:
  /// Throws `error{bad_argument}` for a net that keeps nothing or no room at all, `budget_error`, `error{out_of_memory}`.
  StateTable(const Program& program, Ledger& ledger, std::int64_t capacity, std::int64_t sequences)
      : program_(program), capacity_(capacity), sequences_(sequences) {
    if (program.states.empty())
      throw error(ErrorCode::bad_argument,
                  "KvCache: this net keeps nothing between calls; only an Attention that is Causal does");
    if (capacity < 1 || sequences < 1)
      throw error(ErrorCode::bad_argument,
                  concat("KvCache: expected room for at least 1 token and 1 sequence, got ", capacity,
                         " and ", sequences));
    std::int64_t width = 0;
    for (const StateEntry& entry : program.states) width += entry.width * entry.copies;
    const std::int64_t bytes = width * capacity * sequences * static_cast<std::int64_t>(sizeof(float));
    memory_ = Buffer(ledger, Category::workspace, bytes, "a cache of keys and values");
  }

  [[nodiscard]] std::int64_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::int64_t sequences() const noexcept { return sequences_; }
  [[nodiscard]] std::int64_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return memory_.bytes(); }
  [[nodiscard]] const Program& program() const noexcept { return program_; }

  /// Forgets all tokens after the first `tokens`.
  void keep(std::int64_t tokens) noexcept { tokens_ = std::clamp<std::int64_t>(tokens, 0, tokens_); }

  /// Before a call that adds `dims.tokens`. Throws `error{wrong_state}` if what is there was computed in another session
  /// or under other adapters, `shape_error` if it does not fit.
  void begin(const Dims& dims, const void* session, std::uint64_t generation) {
    if (tokens_ > 0 && session != session_)
      throw error(ErrorCode::wrong_state, "KvCache: it was filled in another session; clear it first");
    if (tokens_ > 0 && generation != generation_)
      throw error(
          ErrorCode::wrong_state,
          concat(
              "KvCache: its ", tokens_,
              " tokens were computed before an adapter was attached or released; clear it, or compute them "
              "again"));
    if (dims.batch != sequences_)
      throw shape_error(ErrorCode::wrong_shape,
                        concat("KvCache: expected batch = ", sequences_, ", got ", dims.batch));
    if (tokens_ + dims.tokens > capacity_)
      throw shape_error(ErrorCode::wrong_shape, concat("KvCache: room for ", capacity_, " tokens, of which ",
                                                       tokens_, " are taken; this call has ", dims.tokens,
                                                       "; make a larger cache, or keep fewer"));
    session_ = session;
    generation_ = generation;
  }
  void end(std::int64_t tokens) noexcept { tokens_ += tokens; }

  [[nodiscard]] StateView view(const StateEntry& entry, std::int64_t copy) noexcept {
    std::int64_t width = entry.width * copy;
    for (const StateEntry* before = program_.states.data(); before != &entry; ++before)
      width += before->width * before->copies;
    return {reinterpret_cast<float*>(memory_.data()) + width * capacity_ * sequences_, sequences_, capacity_,
            entry.width};
  }

 private:
  const Program& program_;
  std::int64_t capacity_;
  std::int64_t sequences_;
  std::int64_t tokens_ = 0;
  std::uint64_t generation_ = 0;
  const void* session_ = nullptr;
  Buffer memory_{};
};

} // namespace tenon
