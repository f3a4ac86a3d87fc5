// SPDX-License-Identifier: Apache-2.0
#include <tenon/gpu.hpp>

#include <cstdio>

int main() {
  namespace tn = tenon;
  try {
    const auto gpu = tn::open_device();
    tn::Ledger ledger;
    tn::Ledger& memory = ledger.on_device(gpu->memory(), gpu->name());
    const tn::Buffer buffer(memory, tn::Category::overlay, 1024, "attach");
    std::printf("%s: held %s\n", std::string(gpu->name()).c_str(), tn::held_text(memory.current()).c_str());
  } catch (const tn::error& problem) {
    std::printf("%s\n", problem.what());
    return 1;
  }
}
