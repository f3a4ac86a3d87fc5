// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"
#include "support/cycles.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <optional>
#include <random>

using namespace tenon;
using namespace tenon::test;

namespace {

/// A model that owns its weights, of the same file as a fixture's.
template <class Net>
struct Owned : Fixture<Net> {
  explicit Owned(DType dtype = DType::f32)
      : Fixture<Net>(dtype), owned(open<Net>(this->folder.file("model.safetensors"),
                                             {.ledger = &this->ledger, .own_weights = true})) {}
  [[nodiscard]] bool has_pristine_weights() const {
    return same_bytes(owned.weights(), this->model.weights());
  }
  Model<Net> owned;
};

} // namespace

TEST_CASE("In place gives the bytes of an overlay without holding weights, and the base back") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    CAPTURE(dtype_name(dtype));
    Owned<Mlp> f(dtype);
    Session session(f.owned);
    const Tensor x = ramp({5, 6});
    const Tensor base = session(x);
    std::vector<std::vector<std::byte>> overlays;
    {
      const Guard guard = session.attach<merged>(f.tone, f.other.scaled(-0.5), 0.8);
      for (std::int32_t slot = 0; slot < 2; ++slot) overlays.push_back(slot_bytes(session, slot));
    }
    const BytesByCategory held = f.ledger.current();
    {
      const Guard guard = session.attach<in_place>(f.tone, f.other.scaled(-0.5), 0.8);
      CHECK(guard.mode() == AttachMode::in_place);
      CHECK(f.ledger.current()[Category::overlay] == 0);
      CHECK(session.slot_weight(0).data == f.owned.weights()[0].data);
      for (std::int32_t slot = 0; slot < 2; ++slot)
        CHECK(slot_bytes(session, slot) == overlays[static_cast<std::size_t>(slot)]);
      CHECK_FALSE(f.has_pristine_weights());
      CHECK_FALSE(session(x) == base);
    }
    CHECK(f.has_pristine_weights());
    CHECK(session(x) == base);
    CHECK(f.ledger.current() == held);
  }
}

TEST_CASE("Own weights stand in the ledger, once, and count for a budget") {
  Fixture<Mlp> f;
  const auto model =
      open<Mlp>(f.folder.file("model.safetensors"), {.ledger = &f.ledger, .own_weights = true});
  std::int64_t bytes = 0;
  for (const TensorView& weight : model.weights()) bytes += (weight.bytes() + 63) / 64 * 64;
  CHECK(f.ledger.current()[Category::base_owned] == bytes);
  Ledger small;
  small.set_budget(100);
  CHECK_THROWS_AS(
      (void)open<Mlp>(f.folder.file("model.safetensors"), {.ledger = &small, .own_weights = true}),
      budget_error);
  CHECK(small.current().total() == 0);
}

TEST_CASE("In-place guards, overlays and side paths nest and end in any order") {
  Owned<Mlp> f;
  Session session(f.owned);
  Session reference(f.model);
  const Tensor x = ramp({5, 6});
  const Tensor base = session(x);
  const auto emplace = [&]<class Mode>(std::optional<Guard>& guard, Mode, const Adapter<Mlp>& adapter,
                                       double scale) { guard.emplace(session.plan<Mode>(adapter, scale)); };
  const Tensor tone = [&] {
    const Guard guard = reference.attach<merged>(f.tone, 0.5);
    return reference(x);
  }();
  const Tensor other = [&] {
    const Guard guard = reference.attach<merged>(f.other, -1.0);
    return reference(x);
  }();
  const Tensor both = [&] {
    const Guard guard = reference.attach<merged>(f.tone, f.other.scaled(-2), 0.5);
    return reference(x);
  }();
  std::optional<Guard> first;
  std::optional<Guard> second;
  SUBCASE("two in place, the first one first") {
    emplace(first, in_place{}, f.tone, 0.5);
    emplace(second, in_place{}, f.other, -1.0);
    CHECK(session(x) == both);
    first.reset();
    CHECK(session(x) == other);
    second.reset();
  }
  SUBCASE("two in place, the second one first") {
    emplace(first, in_place{}, f.tone, 0.5);
    emplace(second, in_place{}, f.other, -1.0);
    second.reset();
    CHECK(session(x) == tone);
    first.reset();
  }
  SUBCASE("an overlay over one in place, which ends first") {
    emplace(first, in_place{}, f.tone, 0.5);
    emplace(second, merged{}, f.other, -1.0);
    CHECK(session(x) == both);
    first.reset();
    CHECK(f.has_pristine_weights());
    CHECK(session(x) == other);
    second.reset();
  }
  SUBCASE("an overlay over one in place, and the overlay ends first") {
    emplace(first, in_place{}, f.tone, 0.5);
    emplace(second, merged{}, f.other, -1.0);
    second.reset();
    CHECK(session(x) == tone);
    first.reset();
  }
  SUBCASE("one in place over an overlay, which ends first") {
    emplace(first, merged{}, f.tone, 0.5);
    emplace(second, in_place{}, f.other, -1.0);
    CHECK(session(x) == both);
    first.reset();
    CHECK(session(x) == other);
    second.reset();
  }
  SUBCASE("in place, an overlay, in place again: from the bottom") {
    std::optional<Guard> third;
    emplace(first, in_place{}, f.tone, 7);
    emplace(second, merged{}, f.tone, 0.5);
    emplace(third, in_place{}, f.other, -1.0);
    first.reset();
    CHECK(session(x) == both);
    third.reset();
    CHECK(session(x) == tone);
    second.reset();
  }
  SUBCASE("in place, an overlay, in place again: the top, then the overlay") {
    std::optional<Guard> third;
    emplace(first, in_place{}, f.tone, 0.5);
    emplace(second, merged{}, f.tone, 3);
    emplace(third, in_place{}, f.other, -1.0);
    third.reset();
    second.reset();
    CHECK(session(x) == tone);
    first.reset();
  }
  CHECK(f.has_pristine_weights());
  CHECK(session(x) == base);
}

TEST_CASE("An in-place guard switches in one pass from the source") {
  Owned<Mlp> f;
  Session session(f.owned);
  Session reference(f.model);
  const Tensor x = ramp({5, 6});
  const Tensor base = session(x);
  {
    Guard guard = session.attach<in_place>(f.tone);
    const Guard merged_other = reference.attach<merged>(f.other, 0.25);
    for (int i = 0; i < 3; ++i) {
      guard.switch_to(session.plan<in_place>(f.other, 0.25));
      CHECK(session(x) == reference(x));
      guard.switch_to(session.plan<in_place>(f.tone, i));
    }
    CHECK_THROWS_AS(guard.switch_to(session.plan<merged>(f.other)), error);
  }
  CHECK(f.has_pristine_weights());
  CHECK(session(x) == base);
}

TEST_CASE("A model that maps its weights is never merged in place") {
  Fixture<Mlp> f;
  Session session(f.model);
  CHECK_THROWS_WITH_AS(
      (void)session.attach<in_place>(f.tone),
      "attach (in place): this model maps its weights, which are never written; open it with "
      "{.own_weights = true}, or attach<merged>",
      error);
}

TEST_CASE("In place wants the model for one session, and keeps others out while it lasts") {
  Owned<Mlp> f;
  Session session(f.owned);
  const Tensor x = ramp({5, 6});
  {
    Session other(f.owned);
    CHECK_THROWS_WITH_AS(
        (void)session.attach<in_place>(f.tone),
        "attach (in place): other sessions compute with this model's weights; end them first, or "
        "attach<merged>",
        error);
  }
  {
    const Guard guard = session.attach<in_place>(f.tone);
    const Guard second = session.attach<in_place>(f.other);
    CHECK_THROWS_WITH_AS(
        Session(f.owned),
        "Session: another session has adapters merged into this model's own weights; end its "
        "guards first",
        error);
  }
  Session other(f.owned);
  CHECK(other(x) == session(x));
}

TEST_CASE("Weights whose file changed meanwhile are lost, and every forward pass says so") {
  Owned<Mlp> f;
  const std::string path = f.folder.file("model.safetensors");
  {
    Session session(f.owned);
    std::optional<Guard> guard;
    guard.emplace(session.plan<in_place>(f.tone));
    std::filesystem::resize_file(path, std::filesystem::file_size(path) + 8);
    guard.reset();
    CHECK_THROWS_WITH_AS(
        session.run(ramp({5, 6})),
        "this model's file changed while an adapter was merged into its weights in place, so they "
        "could not be restored; open the model again",
        error);
  }
  CHECK_THROWS_AS(Session(f.owned), error);
}

TEST_CASE("Weights can be restored from another copy of the file") {
  Fixture<Mlp> f;
  const std::string path = f.folder.file("model.safetensors");
  const std::string copy = f.folder.file("copy.safetensors");
  std::filesystem::copy_file(path, copy);
  const auto model = open<Mlp>(path, {.ledger = &f.ledger, .own_weights = true, .restore_from = copy});
  Session session(model);
  const Tensor x = ramp({5, 6});
  const Tensor base = session(x);
  {
    const Guard guard = session.attach<in_place>(f.tone);
    CHECK_FALSE(session(x) == base);
  }
  CHECK(session(x) == base);
  SUBCASE("which must have the same weights") {
    write_checkpoint<Mlp>(f.folder.file("different.safetensors"), 2, DType::f32);
    try {
      (void)open<Mlp>(path, {.own_weights = true, .restore_from = f.folder.file("different.safetensors")});
      FAIL("a copy with other weights was taken");
    } catch (const load_error& problem) {
      const std::string message = problem.what();
      CAPTURE(message);
      CHECK(
          message.find(
              "different.safetensors: expected the opened file's weights, to restore them from, but weight 0 "
              "of the net differs") != std::string::npos);
    }
  }
  SUBCASE("and is for own weights only") {
    CHECK_THROWS_AS((void)open<Mlp>(path, {.restore_from = copy}), error);
  }
}

TEST_CASE("In place has the strong guarantee whichever of its allocations fails") {
  Owned<Mlp> f;
  Session session(f.owned);
  const Tensor x = ramp({5, 6});
  const Tensor base = session(x);
  const BytesByCategory held = f.ledger.current();
  int failures = 0;
  for (std::int64_t nth = 1;; ++nth, ++failures) {
    bool triggered = false;
    {
      FailAllocations fail(nth);
      try {
        const Guard guard = session.attach<in_place>(f.tone, f.other);
      } catch (const std::bad_alloc&) {
      } catch (const error&) {
      }
      triggered = fail.triggered();
    }
    if (!triggered) break;
    CHECK(f.has_pristine_weights());
    CHECK(session(x) == base);
    CHECK(f.ledger.current() == held);
    const Session other(f.owned); // the claim was given back
  }
  CHECK(failures >= 3);
}

TEST_CASE("Ten thousand random cycles in place leave every byte as it was") {
  Owned<Mlp> f(DType::bf16);
  Session session(f.owned);
  const Tensor x = ramp({2, 6});
  const Tensor base = session(x);
  const BytesByCategory held = f.ledger.current();
  std::mt19937 random(7);
  const int total = cycles(10'000);
  for (int cycle = 0; cycle < total; ++cycle) {
    const double scale = static_cast<double>(random() % 2001) / 500.0 - 2.0;
    Guard first = session.attach<in_place>(random() % 2 == 0 ? f.tone : f.other, scale);
    std::optional<Guard> second;
    if (random() % 3 == 0) second.emplace(session.plan<in_place>(f.other, -scale));
    if (random() % 3 == 0) first.switch_to(session.plan<in_place>(f.tone, f.other, scale));
    if (random() % 2 == 0) static_cast<void>(session.run(x));
    if (random() % 2 == 0) first.release();
    second.reset();
    first.release();
    if (cycle % 100 == 0) REQUIRE(f.has_pristine_weights());
  }
  CHECK(f.has_pristine_weights());
  CHECK(session(x) == base);
  CHECK(f.ledger.current() == held);
}
