// SPDX-License-Identifier: Apache-2.0
// Adapters of every kind on a device: the bytes of overlays that the host merges are those of a session on the host, and
// norms have their biases.
#include <doctest/doctest.h>

#include <support/device_pair.hpp>
#include <support/kind_files.hpp>
#include <support/naive.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Repeat<"layer", 2, Mlp>; // four slots

/// What a slot computes with on the device, once it has run.
template <class Session>
[[nodiscard]] std::vector<std::byte> bytes_there(Session& session, std::int32_t slot) {
  const TensorView& view = session.slot_weight(slot);
  return downloaded(view.data, view.bytes());
}

} // namespace

TEST_CASE("Every kind merged for a device has the bytes of a host session's merge, in every stored type") {
  const auto check = [](std::string_view kind, DType dtype) {
    RandomPair<Net> c(dtype);
    const auto adapter = load_adapter<Net>(write_kind<Net>(c.file("adapter"), kind), {.ledger = &c.ledger});
    const Tensor x = ramp({5, 6});
    const Tensor base = c.session(x);
    const auto in_mode = [&]<class Mode>(Mode) {
      CAPTURE(std::string(kind));
      CAPTURE(std::string(attach_mode_name(Mode::mode)));
      typename RandomPair<Net>::template Both<Mode> both(c, adapter, c.tone.scaled(0.5), 0.8);
      for (const double factor : {1.0, -0.5}) {
        both.rescale(factor);
        CHECK(c.error(x) <= parity(dtype));
        for (std::int32_t slot = 0; kind != "LORA" && slot < 4; ++slot)
          CHECK(bytes_there(c.session, slot) == slot_bytes(c.host, slot));
      }
      both.switch_to(c, c.other);
      CHECK(c.error(x) <= parity(dtype, DType::f32, Mode::mode));
    };
    in_mode(merged{});
    in_mode(in_place{});
    CHECK(c.session(x) == base);
    CHECK(c.has_pristine_weights());
  };
  for (const DType dtype : weight_dtypes) {
    for (const std::string_view kind : kind_names) check(kind, dtype);
    for (const std::string_view kind : other_kind_names) check(kind, dtype);
  }
}

TEST_CASE("Merges in place are taken back whatever the host's budget leaves for copies, before any pass") {
  for (const std::string_view kind : {"LORA", "DORA"}) {
    CAPTURE(std::string(kind));
    RandomPair<Net> c(DType::f32);
    const auto adapter = load_adapter<Net>(write_kind<Net>(c.file("adapter"), kind), {.ledger = &c.ledger});
    const Tensor x = ramp({5, 6});
    const Tensor base = c.host(x);
    const AttachPlan plan = c.session.template plan<in_place>(adapter);
    c.ledger.set_budget(c.ledger.current().budgeted() + plan.bytes.budgeted());
    {
      const Guard guard(plan);
      CHECK(guard.attached());
    }
    CHECK(c.has_pristine_weights());
    c.ledger.set_budget(-1);
    CHECK(c.error(x) <= parity(DType::f32));
    CHECK(c.host(x) == base);
  }
}

TEST_CASE("A measured merge for a device loses what the host's does, and moves the weights alone") {
  using Wide = Linear<"w", 1200, 2000>; // 4.8 MB in bf16: two chunks
  RandomPair<Wide> c(DType::bf16);
  const Tensor x = ramp({2, 1200});
  static_cast<void>(c.session.run(x));
  const DeviceCounts before = c.session.device_counts();
  const typename RandomPair<Wide>::template Both<merged> both(c, c.tone, 0.1, measure_loss);
  const DeviceCounts after = c.session.device_counts();
  CHECK(after.uploads - before.uploads == 2);
  CHECK(after.upload_bytes - before.upload_bytes == 1200 * 2000 * 2);
  CHECK(after.merges == before.merges);
  CHECK(c.session.adapter_copies().uploads == 0);
  CHECK(both.there.loss().weights == 1200 * 2000);
  CHECK(both.there.loss().unmoved == both.on_host.loss().unmoved);
  CHECK(both.there.loss().delta_squared == both.on_host.loss().delta_squared);
  CHECK(both.there.loss().error_squared == both.on_host.loss().error_squared);
  CHECK(c.error(x) <= parity(DType::bf16));
  CHECK(bytes_there(c.session, 0) == slot_bytes(c.host, 0));
}

TEST_CASE("Norms on a device have stored differences of weight and bias, beside the weights biases alone") {
  using Norms = NormSlots<Sequential<LayerNorm<"first", 6>, Linear<"up", 6, 10>, RmsNorm<"last", 10>>>;
  for (const std::string_view kind : {"DIFF", "DIFF8"}) {
    const TemporaryFolder folder;
    write_checkpoint<Norms>(folder.file("norms.safetensors"));
    DevicePair<Norms> c(folder.file("norms.safetensors"));
    const auto all = load_adapter<Norms>(write_kind<Norms>(folder.file("all"), kind), {.ledger = &c.ledger});
    RandomTensors tensors(5, kind == "DIFF8" ? DType::f8_e4m3 : DType::f32);
    tensors.add("diffusion_model.first.diff_b", {6});
    tensors.add("diffusion_model.up.diff_b", {10});
    tensors.write(folder.file("biases.safetensors"));
    const auto biases = load_adapter<Norms>(folder.file("biases.safetensors"), {.ledger = &c.ledger});
    const Tensor x = ramp({3, 6});
    const Tensor base = c.session(x);
    const auto check = [&]<class Mode>(Mode, const Adapter<Norms>& adapter) {
      typename DevicePair<Norms>::template Both<Mode> both(c, adapter, 0.5);
      CHECK(c.error(x) <= device_tolerance);
      CHECK_FALSE(c.session(x) == base);
      both.rescale(-2);
      CHECK(c.error(x) <= device_tolerance);
    };
    in_each_mode([&](auto mode) { check(mode, biases); });
    check(merged{}, all);
    check(in_place{}, all);
    CHECK(c.session(x) == base);
    CHECK(c.has_pristine_weights());
  }
}
