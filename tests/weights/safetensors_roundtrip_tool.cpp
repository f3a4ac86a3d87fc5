// SPDX-License-Identifier: Apache-2.0
// safetensors_roundtrip_tool IN OUT: reads a safetensors file and writes its tensors and metadata to another.
// A file that is refused: the sentence on stderr, and exit status 1.
#include <tenon/weights/safetensors.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include <cstdio>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: safetensors_roundtrip_tool IN OUT\n", stderr);
    return 2;
  }
  try {
    tenon::Ledger ledger;
    const tenon::SafetensorsFile file(argv[1], ledger, tenon::Category::base_mapped);
    std::vector<tenon::NamedTensor> tensors;
    for (const tenon::TensorEntry& entry : file.entries()) tensors.push_back({entry.name, file.view(entry)});
    tenon::write_safetensors(argv[2], tensors, file.header().metadata);
  } catch (const tenon::error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
