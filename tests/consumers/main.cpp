// SPDX-License-Identifier: Apache-2.0
#include <tenon/tenon.hpp>

#include <cstdio>
#include <string>

namespace tn = tenon;

int main() {
  tn::Ledger ledger;
  std::string held;
  {
    const tn::Buffer overlay(ledger, tn::Category::overlay, 350 * tn::MiB, "attach");
    held = tn::held_text(ledger.current());
  }
  std::printf("tenon %d: held %s, then %s\n", TENON_VERSION, held.c_str(),
              tn::held_text(ledger.current()).c_str());
}
