// SPDX-License-Identifier: Apache-2.0
// A tiny checkpoint and a tiny PEFT adapter for it, written to a temporary folder and removed at the end.
#pragma once

#include <tenon/weights/safetensors_writer.hpp>
#include <tenon/weights/tensor.hpp>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace first {

/// Small numbers that differ from one another.
inline tenon::Tensor numbers(std::vector<std::int64_t> shape) {
  tenon::Tensor tensor(std::move(shape));
  for (std::size_t i = 0; i < tensor.values().size(); ++i)
    tensor.values()[i] = static_cast<float>((i * 37) % 19) / 19.0f - 0.5f;
  return tensor;
}

class Files {
 public:
  struct Entry {
    std::string name;
    std::vector<std::int64_t> shape;
  };

  /// `folder`: below the system's for temporary files.
  explicit Files(const std::string& folder = "tenon-first")
      : folder_(std::filesystem::temp_directory_path() / folder) {
    std::filesystem::create_directories(folder_ / "adapter");
    write(model(), {{"up.weight", {8, 4}}, {"up.bias", {8}}, {"down.weight", {4, 8}}, {"down.bias", {4}}});
    write(adapter() + "/adapter_model.safetensors", {{"base_model.model.up.lora_A.weight", {2, 4}},
                                                     {"base_model.model.up.lora_B.weight", {8, 2}},
                                                     {"base_model.model.down.lora_A.weight", {2, 8}},
                                                     {"base_model.model.down.lora_B.weight", {4, 2}}});
    std::ofstream(adapter() + "/adapter_config.json") << R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})";
  }
  ~Files() { std::filesystem::remove_all(folder_); }
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;

  [[nodiscard]] std::string model() const { return (folder_ / "model.safetensors").string(); }
  [[nodiscard]] std::string adapter() const { return (folder_ / "adapter").string(); }
  /// One more file; its path.
  [[nodiscard]] std::string write_adapter(const std::string& name, const std::vector<Entry>& entries) const {
    const std::string path = (folder_ / name).string();
    write(path, entries);
    return path;
  }

 private:
  static void write(const std::string& path, const std::vector<Entry>& entries) {
    std::vector<tenon::Tensor> tensors;
    std::vector<tenon::NamedTensor> named;
    for (const Entry& entry : entries) tensors.push_back(numbers(entry.shape));
    for (std::size_t i = 0; i < entries.size(); ++i) named.push_back({entries[i].name, tensors[i]});
    tenon::write_safetensors(path, named);
  }

  std::filesystem::path folder_;
};

} // namespace first
