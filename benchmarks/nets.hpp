// SPDX-License-Identifier: Apache-2.0
// A net of four square matrices, and its model and adapters on disk, as a program finds them.
#pragma once

#include <tenon/tenon.hpp>

#include <support/files.hpp>
#include <support/temporary_folder.hpp>

#include <vector>

namespace tenon::bench {

template <std::int64_t Width>
using Four = Sequential<Linear<"a", Width, Width>, Linear<"b", Width, Width>, Linear<"c", Width, Width>,
                        Linear<"d", Width, Width>>;

template <class Net>
struct Files {
  explicit Files(int adapter_count, std::int64_t rank = 16, DType dtype = DType::f32) {
    test::write_checkpoint<Net>(folder.file("model.safetensors"), 1, dtype);
    const std::string path = test::write_adapter<Net>(folder.file("adapter"), rank);
    for (int i = 0; i < adapter_count; ++i) adapters.push_back(load_adapter<Net>(path));
  }
  [[nodiscard]] std::string checkpoint() const { return folder.file("model.safetensors"); }

  test::TemporaryFolder folder;
  std::vector<Adapter<Net>> adapters;
};

} // namespace tenon::bench
