// SPDX-License-Identifier: Apache-2.0
// The same model on the host and on a device, each with a session: what tests of parity compare.
#pragma once

#include <session/fixture.hpp>
#include <support/device_memory.hpp>
#include <support/device_tolerance.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

namespace tenon::test {

/// What a device computes may differ from the host's by this where products with tensors of this type are made. On a GPU
/// what is multiplied by tensors of 16 bits is rounded to their type, by half of 2^-7 or 2^-10 of it at most, and a net's
/// layers add their parts up.
[[nodiscard]] inline double parity(DType type) {
  constexpr double layers = 4; // of a few, by which a small random net makes such parts larger
  if (type == DType::f32 || !rounds_to_weights()) return device_tolerance;
  return layers * (type == DType::f16 ? 0x1p-11 : 0x1p-8);
}
/// The same where factors are attached. Merged weights of 16 bits may be neighbours anywhere where the device's sum and
/// the host's lie about a tie.
[[nodiscard]] inline double parity(DType weights, DType factors, AttachMode mode) {
  if (mode == AttachMode::side_path) return std::max(parity(weights), parity(factors));
  if (weights == DType::f32) return device_tolerance;
  return std::max(parity(weights), weights == DType::f16 ? 0x1p-11 : 0x1p-8);
}

template <class Net>
struct DevicePair {
  Ledger ledger{};
  Model<Net> host_model;
  Model<Net, on_device> device_model;
  Session<Net> host;
  Session<Net, on_device> session;

  explicit DevicePair(const std::string& path)
      : host_model(open<Net>(path, {.ledger = &ledger})),
        device_model(open<Net, on_device>(path, {.ledger = &ledger})), host(host_model),
        session(device_model) {}

  [[nodiscard]] Ledger& memory() const { return device_model.device_ledger(); }
  /// The largest difference of any output.
  template <class... Inputs>
  [[nodiscard]] double error(const Inputs&... inputs) {
    static_cast<void>(session.run(inputs...));
    static_cast<void>(host.run(inputs...));
    double worst = 0;
    for (std::size_t i = 0; i < Session<Net>::output_count; ++i)
      worst = std::max(worst, difference(values(session.output(i)), values(host.output(i))));
    return worst;
  }
  /// Whether the device's weights are the file's, byte by byte.
  [[nodiscard]] bool has_pristine_weights() const {
    for (std::size_t i = 0; i < host_model.weights().size(); ++i) {
      const TensorView& mapped = host_model.weights()[i];
      const std::vector<std::byte> got = downloaded(device_model.weights()[i].data, mapped.bytes());
      if (std::memcmp(got.data(), mapped.data, got.size()) != 0) return false;
    }
    return true;
  }
  /// Attaches the same to both sessions until it ends; in place on the device is merged on the host, whose weights are
  /// a file's.
  template <class Mode>
  struct Both {
    using HostMode = std::conditional_t<std::is_same_v<Mode, in_place>, merged, Mode>;
    Guard on_host;
    Guard there;

    template <class... Arguments>
    explicit Both(DevicePair& pair, const Arguments&... arguments)
        : on_host(pair.host.template plan<HostMode>(arguments...)),
          there(pair.session.template plan<Mode>(arguments...)) {}
    template <class... Arguments>
    void switch_to(DevicePair& pair, const Arguments&... arguments) {
      on_host.switch_to(pair.host.template plan<HostMode>(arguments...));
      there.switch_to(pair.session.template plan<Mode>(arguments...));
    }
    void rescale(double factor) {
      on_host.rescale(factor);
      there.rescale(factor);
    }
  };

 private:
  [[nodiscard]] static std::span<const float> values(const TensorView& view) {
    return {reinterpret_cast<const float*>(view.data), static_cast<std::size_t>(view.size())};
  }
};

/// A net with random weights of a type, and two adapters with factors of one.
template <class Net>
struct RandomPair : TemporaryFolder, DevicePair<Net> {
  explicit RandomPair(DType weights = DType::f32, DType factors = DType::f32)
      : DevicePair<Net>(
            (write_checkpoint<Net>(file("model.safetensors"), 1, weights), file("model.safetensors"))),
        tone(
            load_adapter<Net>(write_adapter<Net>(file("tone"), 4, 8, 2, factors), {.ledger = &this->ledger})),
        other(load_adapter<Net>(write_adapter<Net>(file("other"), 17, 9, 3, factors),
                                {.ledger = &this->ledger})) {}
  Adapter<Net> tone;
  Adapter<Net> other;
};

} // namespace tenon::test
