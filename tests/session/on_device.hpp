// SPDX-License-Identifier: Apache-2.0
// A fixture's net and file on a stand-in for a device.
#pragma once

#include "session/fixture.hpp"
#include "support/kind_files.hpp"
#include "support/stand_in_device.hpp"

#include <memory>

namespace tenon::test {

/// The same net and file as a fixture's, on a device.
template <class Net>
struct OnDevice : Fixture<Net> {
  explicit OnDevice(DType dtype = DType::f32, const MemorySource& source = system_memory())
      : Fixture<Net>(dtype, source), gpu(std::make_shared<StandInDevice>(program_of<Net>())),
        moved(open<Net, on_device>(this->folder.file("model.safetensors"), gpu, {.ledger = &this->ledger})) {}
  /// An adapter of a kind of support/kind_files.hpp for all slots, or for the first `slots`.
  [[nodiscard]] Adapter<Net> load(std::string_view kind, std::int64_t slots = -1, std::uint32_t seed = 7) {
    const std::string name = concat(kind, "_", slots, "_", seed);
    return load_adapter<Net>(write_kind<Net>(this->folder.file(name), kind, {.seed = seed}, slots),
                             {.ledger = &this->ledger});
  }
  [[nodiscard]] Ledger& memory() const { return moved.device_ledger(); }
  [[nodiscard]] bool has_pristine_weights() const {
    return same_bytes(moved.weights(), this->model.weights());
  }
  std::shared_ptr<StandInDevice> gpu;
  Model<Net, on_device> moved;
};

/// What must not differ after a failure, and once guards have ended.
struct Held {
  BytesByCategory on_host;
  BytesByCategory on_device;
  std::size_t blocks;

  template <class F>
  explicit Held(const F& f)
      : on_host(f.ledger.current()), on_device(f.memory().current()), blocks(f.gpu->blocks()) {}
  friend bool operator==(const Held&, const Held&) = default;
};

} // namespace tenon::test
