// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"
#include "support/cycles.hpp"
#include "support/stand_in_device.hpp"

#include <doctest/doctest.h>

#include <optional>

using namespace tenon;
using namespace tenon::test;

namespace {

constexpr Config on_device{.memory = device};

/// The same net and file as a fixture's, on a device.
template <class Net>
struct OnDevice : Fixture<Net> {
  explicit OnDevice(DType dtype = DType::f32)
      : Fixture<Net>(dtype), gpu(std::make_shared<StandInDevice>(program_of<Net>())),
        moved(open<Net, on_device>(this->folder.file("model.safetensors"), gpu, {.ledger = &this->ledger})) {}
  [[nodiscard]] Ledger& memory() const { return moved.device_ledger(); }
  [[nodiscard]] bool has_pristine_weights() const {
    for (std::size_t i = 0; i < moved.weights().size(); ++i) {
      const TensorView& mapped = this->model.weights()[i];
      if (std::memcmp(moved.weights()[i].data, mapped.data, static_cast<std::size_t>(mapped.bytes())) != 0)
        return false;
    }
    return true;
  }
  std::shared_ptr<StandInDevice> gpu;
  Model<Net, on_device> moved;
};

} // namespace

TEST_CASE("A model on a device computes what it computes on the host, attached in every mode and after") {
  OnDevice<Mlp> f;
  Session on_host(f.model);
  Session session(f.moved);
  const Tensor x = ramp({5, 6});
  const Tensor base = on_host(x);
  CHECK(session(x) == base);
  const auto both = [&]<class Mode>() {
    const Guard there = session.attach<Mode>(f.tone, f.other.scaled(-0.5), 0.8);
    const Guard here = on_host.attach<std::conditional_t<std::is_same_v<Mode, in_place>, merged, Mode>>(
        f.tone, f.other.scaled(-0.5), 0.8);
    CHECK(session(x) == on_host(x));
    CHECK_FALSE(session(x) == base);
  };
  both.operator()<side_path>();
  both.operator()<merged>();
  both.operator()<in_place>();
  CHECK(session(x) == base);
  CHECK(f.has_pristine_weights());
}
