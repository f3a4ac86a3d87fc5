// SPDX-License-Identifier: Apache-2.0
// Adapters on convolutions whose patches are gathered in several tiles: every kind gives beside the weights what it
// gives merged, with any number of threads, without allocating, and leaves nothing behind.
#include "session/fixture.hpp"
#include "support/allocation_probe.hpp"
#include "support/kind_files.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

using Block = Sequential<GroupNorm<"norm", 4, 8>, Silu, Conv2d<"conv", 8, 8, 3, Padding<1>>>;
/// 4096 positions: two tiles of patches of 72 floats in the blocks, one of the last convolution's.
using Net = Sequential<Conv2d<"in", 8, 8, 1>, Repeat<"block", 2, Block>,
                       Conv2d<"down", 8, 16, 3, Stride<2>, Padding<1>>>;
constexpr std::int64_t side = 64;

struct Case {
  TemporaryFolder folder{};
  Model<Net> model;
  Adapter<Net> adapter;
  Tensor x = ramp({1, side, side, 8});

  explicit Case(std::string_view kind, DType dtype = DType::f32)
      : model((write_checkpoint<Net>(folder.file("model.safetensors"), 1, dtype),
               open<Net>(folder.file("model.safetensors")))),
        adapter(load_adapter<Net>(write_kind<Net>(folder.file("adapter"), kind))) {}
};

} // namespace

TEST_CASE("Every kind on convolutions is beside the weights what it is merged") {
  for (const std::string_view kind : kind_names) {
    CAPTURE(std::string(kind));
    Case c(kind);
    Session session(c.model);
    const Tensor base = session(c.x);
    const std::uint64_t hash = bytes_hash(c.model.checkpoint());
    std::optional<Tensor> beside;
    {
      const Guard guard = session.attach(c.adapter, 0.5);
      beside = session(c.x);
      CHECK(*beside != base);
      const AllocationProbe probe;
      session.run(c.x);
      const auto taken = probe.count();
      CHECK(taken == 0);
    }
    CHECK(session(c.x) == base);
    {
      const Guard guard = session.attach<merged>(c.adapter, 0.5);
      // four layers after each other, each within 2e-6 of its own
      CHECK(relative_error(session(c.x).values(), beside->values()) <= 8e-6);
    }
    CHECK(session(c.x) == base);
    CHECK(bytes_hash(c.model.checkpoint()) == hash);
  }
}

TEST_CASE("Adapters on convolutions have the same bits with any number of threads") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const std::string_view kind : kind_names) {
      CAPTURE(std::string(kind));
      CAPTURE(dtype_name(dtype));
      Case c(kind, dtype);
      Session session(c.model);
      const Guard guard = session.attach(c.adapter, -0.5);
      const Tensor alone = session(c.x);
      for (const int threads : {2, 3}) {
        session.use_threads(threads);
        CHECK(session(c.x) == alone);
      }
    }
}

TEST_CASE(
    "test_hotswap_works on conv2d: from any kind to any other, of other ranks and alphas, forth and back") {
  Case c("LORA");
  Session session(c.model);
  const Tensor base = session(c.x);
  const auto weights = [&session] {
    std::vector<std::vector<std::byte>> all;
    for (std::int32_t slot = 0; slot < slot_count<Net>; ++slot) all.push_back(slot_bytes(session, slot));
    return all;
  };
  std::vector<Adapter<Net>> adapters;
  std::vector<std::vector<std::vector<std::byte>>> expected;
  for (const std::string_view kind : kind_names)
    for (const KindOptions& options : {KindOptions{1, 0.5, 3}, KindOptions{16, 4, 5}}) {
      adapters.push_back(load_adapter<Net>(write_kind<Net>(c.folder.file("next"), kind, options)));
      const Guard guard = session.attach<merged>(adapters.back(), 0.5);
      expected.push_back(weights());
    }
  {
    Guard guard = session.attach<merged>(adapters[0], 0.5);
    const std::byte* const place = session.slot_weight(0).data;
    for (std::size_t to = adapters.size(); to-- > 0;) {
      CAPTURE(to);
      guard.switch_to(session.plan<merged>(adapters[to], 0.5));
      CHECK(weights() == expected[to]);
      guard.switch_to(session.plan<merged>(adapters[0], 0.5));
      CHECK(weights() == expected[0]);
      CHECK(session.slot_weight(0).data == place);
    }
  }
  CHECK(session(c.x) == base);
}
