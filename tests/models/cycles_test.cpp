// SPDX-License-Identifier: Apache-2.0
// 10,000 random attach/release cycles (TENON_CYCLES sets another number): modes, scales, numbers and orders of guards.
// After them the base's bytes are the same, the ledger is where it was, the process's anonymous memory has not grown,
// and no forward pass or release has allocated.
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"
#include "support/cycles.hpp"

#include <digits/digits_net.hpp>
#include <sentences/model_folder.hpp>
#include <tenon/memory/process_memory.hpp>
#include <tenon/models/bert.hpp>

#include <doctest/doctest.h>

#include <optional>
#include <random>

using namespace tenon;
using namespace tenon::test;

namespace {

int cycle_count() { return std::max(cycles(10'000), 20); }

std::int64_t anonymous_bytes() { return read_process_memory().value_or(ProcessMemory{}).anonymous; }

/// One to three guards that overlap in a random order, with a forward pass while each set is attached.
template <class Net, class Forward>
class RandomCycles {
 public:
  RandomCycles(Session<Net>& session, std::vector<Adapter<Net>> adapters, int merged_one_in, Forward forward)
      : session_(session), adapters_(std::move(adapters)), merged_one_in_(merged_one_in), forward_(forward) {}

  /// Returns the allocations of its forward passes and releases.
  std::int64_t run() {
    std::array<std::optional<Guard>, 3> guards;
    const int count = pick(3) + 1;
    for (int i = 0; i < count; ++i) {
      const Adapter<Net>& adapter =
          adapters_[static_cast<std::size_t>(pick(static_cast<int>(adapters_.size())))];
      const double scale = std::uniform_real_distribution<double>(-1.5, 1.5)(random_);
      std::optional<Guard>& guard = guards[static_cast<std::size_t>(i)];
      if (pick(merged_one_in_) == 0)
        guard.emplace(session_.template plan<merged>(adapter, scale));
      else
        guard.emplace(session_.plan(adapter, scale));
    }
    std::array<std::size_t, 3> order{0, 1, 2};
    std::shuffle(order.begin(), order.end(), random_);
    const AllocationProbe probe;
    forward_();
    for (const std::size_t i : order) {
      if (!guards[i]) continue;
      guards[i]->release();
      if (pick(4) == 0) forward_();
    }
    return probe.count();
  }

 private:
  int pick(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }

  Session<Net>& session_;
  std::vector<Adapter<Net>> adapters_;
  int merged_one_in_;
  Forward forward_;
  std::mt19937 random_{20};
};

template <class Net, class Forward, class Answer>
void check_cycles(Ledger& ledger, const Model<Net>& model, Session<Net>& session,
                  std::vector<Adapter<Net>> adapters, int merged_one_in, Forward forward, Answer answer) {
  RandomCycles cycles(session, std::move(adapters), merged_one_in, forward);
  const std::uint64_t hash = bytes_hash(model.checkpoint());
  const auto base = answer();
  const int count = cycle_count();
  std::int64_t allocated = 0;
  for (int i = 0; i < count / 10; ++i) allocated += cycles.run(); // the heap reaches its steady size
  const BytesByCategory held = ledger.current();
  const std::int64_t before = anonymous_bytes();
  for (int i = 0; i < count - count / 10; ++i) allocated += cycles.run();
  const std::int64_t grown = anonymous_bytes() - before;
  CHECK(allocated == 0);
  CHECK(ledger.current() == held);
  CHECK(bytes_hash(model.checkpoint()) == hash);
  CHECK(answer() == base);
  if (!under_sanitizer) CHECK(grown <= 256 * KiB); // a leak of one node a cycle would be 900 KiB
  MESSAGE(count << " cycles; anonymous memory grew by " << grown << " bytes");
}

} // namespace

TEST_CASE("Ten thousand random cycles on the digits model leave no trace") {
  const std::string data = TENON_EXAMPLES_DATA "/digits/data/";
  Ledger ledger;
  const auto model = open<digits::Net>(data + "digits.safetensors", {.ledger = &ledger});
  Session session(model, {.tokens = 8});
  const Tensor x = ramp({8, 64});
  const TensorView view = x;
  std::vector<Adapter<digits::Net>> adapters;
  for (const char* name : {"rotated", "inverted", "noisy"})
    adapters.push_back(load_adapter<digits::Net>(data + name, {.ledger = &ledger}));
  check_cycles(ledger, model, session, adapters, 2, [&] { session.run(view); }, [&] { return session(x); });
}

TEST_CASE("Ten thousand random cycles on MiniLM leave no trace") {
  const std::string folder = sentences::model_folder();
  if (!sentences::has_model(folder)) {
    if (sentences::environment("TENON_REQUIRE_MODELS") == "1") FAIL("no model in " << folder);
    MESSAGE("skipped: no model in " << folder << "; run examples/sentences/fetch_model.sh");
    return;
  }
  const std::string data = TENON_EXAMPLES_DATA "/sentences/data/";
  Ledger ledger;
  const auto model = open<models::MiniLM>(folder + "/model.safetensors", {.ledger = &ledger});
  Session session(model, {.batch = 1, .tokens = 3});
  const std::vector<std::int32_t> ids{101, 7592, 102};
  const Tensor mask({1, 3}, {1, 1, 1});
  const TensorView id_view = view(ids, {1, 3});
  const TensorView mask_view = mask;
  std::vector<Adapter<models::MiniLM>> adapters;
  for (const char* name : {"tone_qv", "tone_all"})
    adapters.push_back(load_adapter<models::MiniLM>(data + name, {.ledger = &ledger}));
  check_cycles(
      ledger, model, session, adapters, 12, [&] { session.run(id_view, mask_view); },
      [&] { return session(id_view, mask_view)[0]; });
}
