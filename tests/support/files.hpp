// SPDX-License-Identifier: Apache-2.0
// Checkpoints and PEFT adapters with random values for any net, written where a test wants them. The values are a
// function of the seed alone.
#pragma once

#include <tenon/graph/lower.hpp>
#include <tenon/graph/tables.hpp>
#include <tenon/weights/convert.hpp>
#include <tenon/weights/fp8.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace tenon::test {

/// F32 tensors of given values, kept until written; which returns the path.
struct FloatTensors {
  struct Entry {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float> values;
  };
  std::vector<Entry> entries{};

  void add(std::string name, std::vector<std::int64_t> shape, std::vector<float> values) {
    entries.push_back({std::move(name), std::move(shape), std::move(values)});
  }
  std::string write(const std::string& path) const {
    std::vector<NamedTensor> named;
    for (const Entry& entry : entries)
      named.push_back({entry.name, TensorView(entry.values.data(), DType::f32, entry.shape)});
    write_safetensors(path, named);
    return path;
  }
};

/// Tensors of given names and shapes with normal values of standard deviation `sigma`, kept until written.
class RandomTensors {
 public:
  RandomTensors(std::uint32_t seed, DType dtype, float sigma = 0.2f)
      : random_(seed), dtype_(dtype), sigma_(sigma) {}

  void add(std::string name, std::vector<std::int64_t> shape) {
    std::int64_t size = 1;
    for (const std::int64_t extent : shape) size *= extent;
    std::vector<float> values(static_cast<std::size_t>(size));
    for (float& value : values) value = std::normal_distribution<float>(0.0f, sigma_)(random_);
    std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(dtype_bytes(dtype_)));
    if (is_fp8(dtype_)) // nobody encodes these: of either sign, 2^-3 to 15/32 in F8_E4M3
      for (std::byte& byte : bytes)
        byte = static_cast<std::byte>((random_() & 0x80) | (0x20 + random_() % 16));
    else
      encode(dtype_, values.data(), size, bytes.data());
    entries_.push_back({std::move(name), std::move(shape), std::move(bytes)});
  }
  void write(const std::string& path) const {
    std::vector<NamedTensor> named;
    for (const Entry& entry : entries_)
      named.push_back({entry.name, TensorView(entry.bytes.data(), dtype_, entry.shape)});
    write_safetensors(path, named);
  }

 private:
  struct Entry {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };
  std::mt19937 random_;
  DType dtype_;
  float sigma_;
  std::vector<Entry> entries_{};
};

/// All weights of `Net`, each name after `prefix`.
template <class Net>
void write_checkpoint(const std::string& path, std::uint32_t seed = 1, DType dtype = DType::f32,
                      const std::string& prefix = "") {
  const Program& program = program_of<Net>();
  RandomTensors tensors(seed, dtype);
  for (const WeightEntry& entry : program.weights)
    for (std::int32_t copy = 0; copy < entry.copies; ++copy)
      tensors.add(prefix + expanded_path(program, entry.path, entry.loop, copy),
                  std::vector<std::int64_t>(entry.shape().begin(), entry.shape().end()));
  tensors.write(path);
}

/// A PEFT folder with factors for every slot of `Net`. Returns the folder.
template <class Net>
std::string write_adapter(const std::string& folder, std::int64_t rank = 4, double alpha = 8,
                          std::uint32_t seed = 2, DType dtype = DType::f32) {
  const Program& program = program_of<Net>();
  RandomTensors tensors(seed, dtype);
  for (const SlotEntry& entry : program.slots)
    for (std::int32_t copy = 0; copy < entry.copies; ++copy) {
      const std::string path = "base_model.model." + expanded_path(program, entry.path, entry.loop, copy);
      tensors.add(path + ".lora_A.weight", {rank, entry.in});
      tensors.add(path + ".lora_B.weight", {entry.out, rank});
    }
  std::filesystem::create_directories(folder);
  tensors.write(folder + "/adapter_model.safetensors");
  std::ofstream(folder + "/adapter_config.json")
      << concat(R"({"peft_type": "LORA", "r": )", rank, R"(, "lora_alpha": )", std::to_string(alpha), "}");
  return folder;
}

} // namespace tenon::test
