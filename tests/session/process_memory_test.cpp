// SPDX-License-Identifier: Apache-2.0
// The ledger against the process's own figures (/proc/self/smaps_rollup), on buffers large enough to tell.
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"

#include <tenon/memory/process_memory.hpp>

#include <doctest/doctest.h>

#include <optional>

using namespace tenon;
using namespace tenon::test;

namespace {

using Wide = Sequential<Linear<"up", 1024, 8192>, Gelu, Linear<"down", 8192, 1024>>; // 64 MiB of weights

/// Pages that became anonymous memory or file pages of this process since construction, beside what the ledger says.
struct Since {
  ProcessMemory before = *read_process_memory();

  [[nodiscard]] std::int64_t anonymous() const { return read_process_memory()->anonymous - before.anonymous; }
  [[nodiscard]] std::int64_t file_mapped() const {
    return read_process_memory()->file_mapped - before.file_mapped;
  }
};

bool within_two_percent(std::int64_t measured, std::int64_t expected) {
  return std::abs(measured - expected) * 50 <= expected;
}

} // namespace

TEST_CASE("The ledger agrees with the process within two percent") {
  if (!read_process_memory() || under_sanitizer)
    return; // a sanitizer's own memory is in the process's figures
  const Fixture<Wide> f;
  const Since mapped;
  const std::uint64_t hash = bytes_hash(f.model.checkpoint()); // touches every page of the mapping
  CHECK(within_two_percent(mapped.file_mapped(), f.ledger.current()[Category::base_mapped]));

  const BytesByCategory before = f.ledger.current();
  const Since start;
  std::optional<Session<Wide>> session;
  session.emplace(f.model, Dims{.tokens = 2048});
  const Tensor x = ramp({2048, 1024});
  const std::int64_t input = start.anonymous();
  session->run(x);
  {
    const Guard guard = session->attach<merged>(f.tone, f.other);
    session->run(x);
    const BytesByCategory held = f.ledger.current();
    const std::int64_t owned = held.budgeted() - before.budgeted();
    CHECK(owned > 128 * MiB);
    CHECK(within_two_percent(start.anonymous() - input, owned));
  }
  const std::int64_t after = start.anonymous() - input; // the overlays went back to the system
  CHECK(within_two_percent(after, f.ledger.current().budgeted() - before.budgeted()));
  session.reset();
  CHECK(start.anonymous() - input <= 1 * MiB);
  CHECK(bytes_hash(f.model.checkpoint()) == hash);
}

TEST_CASE("Kept overlays stay with the process until they are trimmed") {
  if (!read_process_memory() || under_sanitizer) return;
  const Fixture<Wide> f;
  Session session(f.model, {.tokens = 1});
  session.keep_overlays(1 * GiB);
  const Since start;
  {
    const Guard guard = session.attach<merged>(f.tone);
  }
  CHECK(session.kept_overlay_bytes() == 64 * MiB);
  CHECK(within_two_percent(start.anonymous(), session.kept_overlay_bytes()));
  session.trim();
  CHECK(start.anonymous() < 1 * MiB);
}

TEST_CASE("With covered pages dropped a merged net is as resident as the base alone") {
  if (!read_process_memory() || under_sanitizer) return;
  const Fixture<Wide> f;
  Session session(f.model, {.tokens = 1});
  const Tensor x = ramp({1, 1024});
  const Since start;
  const Tensor base = session(x); // reads the whole base
  const std::int64_t alone = start.file_mapped() + start.anonymous();
  CHECK(within_two_percent(alone, 64 * MiB));
  const auto resident_merged = [&] {
    const Guard guard = session.attach<merged>(f.tone);
    static_cast<void>(session.run(x));
    return start.file_mapped() + start.anonymous();
  };
  CHECK(within_two_percent(resident_merged(), 128 * MiB));
  session.drop_covered_pages();
  CHECK(within_two_percent(resident_merged(), 64 * MiB));
  CHECK(session(x) == base);
}

TEST_CASE("A model that owns its weights holds them once, and merges in place without more") {
  if (!read_process_memory() || under_sanitizer) return;
  Fixture<Wide> f;
  const Since start;
  const auto model =
      open<Wide>(f.folder.file("model.safetensors"), {.ledger = &f.ledger, .own_weights = true});
  CHECK(within_two_percent(start.anonymous() + start.file_mapped(), 64 * MiB));
  Session session(model, {.tokens = 1});
  const auto resident = [&] { return start.anonymous() + start.file_mapped(); };
  const std::int64_t before = resident();
  {
    const Guard guard = session.attach<in_place>(f.tone, f.other);
    CHECK(resident() - before < 2 * MiB); // the adapters' pages
  }
  CHECK(resident() - before < 2 * MiB);
}
