// SPDX-License-Identifier: Apache-2.0
// The same model on a device: only its configuration differs. Weights and adapters lie in the device's memory, which the
// ledger counts apart from the host's; attaching, merging, switching and giving the base back are the same calls. An
// adapter is copied when it is named, and nothing else is. Without a GPU this runs on Thrust's stand-in for one. The
// files are those of examples/digits.
//
// Expected output:
//   device: ...
//   outputs as on the host, of the base and with every adapter: yes
//   loading an adapter copied 42.3 KiB, its own bytes
//   merged: 210.5 KiB of overlays on the device, 0 B on the host
//   twice as strong: 32 bytes sent
//   the base is back, bit for bit: yes
#include "../digits/digits_net.hpp"

#include <tenon/gpu.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace {

using namespace digits;

constexpr tn::Config on_gpu{.memory = tn::device};

const std::string data = TENON_EXAMPLES_DATA "/digits/data/";

/// Within what sums of floats in another order differ by.
bool agree(const tn::Tensor& a, const tn::Tensor& b) {
  float largest = 0;
  float worst = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i) {
    largest = std::max(largest, std::abs(a.values()[i]));
    worst = std::max(worst, std::abs(a.values()[i] - b.values()[i]));
  }
  return worst <= 1e-5f * largest;
}

int run() {
  const auto on_host = tn::open<Net>(data + "digits.safetensors");
  const auto model = tn::open<Net, on_gpu>(data + "digits.safetensors");
  tn::Session reference(on_host);
  tn::Session session(model, {.tokens = 450});
  std::printf("device: %s\n", std::string(session.device_ledger().place()).c_str());

  tn::Tensor x({450, 64});
  for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] = static_cast<float>(i * 29 % 41) / 41.0f;
  const tn::Tensor base = session(x);
  bool same = agree(base, reference(x));
  for (const char* const name : {"rotated", "noisy", "inverted"}) {
    const auto adapter = tn::load_adapter<Net>(data + name);
    const tn::Guard here = reference.attach(adapter);
    const tn::Guard there = session.attach(adapter);
    same = same && agree(session(x), reference(x));
  }
  std::printf("outputs as on the host, of the base and with every adapter: %s\n", same ? "yes" : "no");

  const auto rotated = tn::load_adapter<Net>(data + "rotated");
  const std::int64_t before = session.adapter_copies().upload_bytes;
  session.load(rotated);
  std::printf("loading an adapter copied %s, its own bytes\n",
              tn::bytes_text(session.adapter_copies().upload_bytes - before).c_str());
  {
    const tn::Guard guard = session.attach<tn::merged>(rotated);
    std::printf("merged: %s of overlays on the device, %s on the host\n",
                tn::bytes_text(session.device_ledger().current()[tn::Category::overlay]).c_str(),
                tn::bytes_text(session.ledger().current()[tn::Category::overlay]).c_str());
  }
  {
    tn::Guard guard = session.attach(rotated);
    const std::int64_t sent = session.device_counts().upload_bytes;
    guard.rescale(2);
    std::printf("twice as strong: %lld bytes sent\n",
                static_cast<long long>(session.device_counts().upload_bytes - sent));
  }
  session.evict(rotated);
  std::printf("the base is back, bit for bit: %s\n", session(x) == base ? "yes" : "no");
  return 0;
}

} // namespace

int main() {
  try {
    return run();
  } catch (const tn::error& problem) {
    std::fprintf(stderr, "gpu: %s\n", problem.what());
    return problem.code() == tn::ErrorCode::device_failed ? 77 : 1; // 77: there is no device to show it on
  }
}
