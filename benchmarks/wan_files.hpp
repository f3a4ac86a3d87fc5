// SPDX-License-Identifier: Apache-2.0
// Files for nets of one loop of blocks (wan.hpp): a bf16 checkpoint with the names and shapes of all blocks, of which
// only the first ones have values, so that 32 GB take little of a disk; and a PEFT adapter for some of the blocks.
#pragma once

#include <tenon/graph/program.hpp>
#include <tenon/graph/tables.hpp>
#include <tenon/weights/convert.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tenon::bench {

/// Normal values in bf16. Tensors are cut from it one behind the other, from its beginning again at its end.
class Values {
 public:
  Values(std::uint32_t seed, float sigma) : bytes_(count * 2) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, sigma);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    encode(bf16, values.data(), count, bytes_.data());
  }
  /// The next `bytes`, or as many as there are up to the end.
  [[nodiscard]] std::span<const std::byte> next(std::int64_t bytes) {
    if (at_ == bytes_.size()) at_ = 0;
    const std::size_t size = std::min(static_cast<std::size_t>(bytes), bytes_.size() - at_);
    at_ += size;
    return {bytes_.data() + at_ - size, size};
  }
  /// The next `bytes` in one piece. Precondition: no more than there are in all.
  [[nodiscard]] const std::byte* next_whole(std::int64_t bytes) {
    if (bytes_.size() - at_ < static_cast<std::size_t>(bytes)) at_ = 0;
    return next(bytes).data();
  }
  [[nodiscard]] std::span<const std::byte> all() const noexcept { return bytes_; }

 private:
  static constexpr std::int64_t count = 4'000'037; // not a multiple of a row
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

/// Waits until the disk has the file, so that writing it does not go on while something is timed.
inline void settle(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 || ::fsync(file) != 0) std::perror(path.c_str());
  ::close(file);
}

/// All tensors of all blocks in bf16; those of the first `filled` blocks have values, the rest are holes.
inline void write_base(const Program& program, const std::string& path, std::int64_t filled) {
  std::vector<std::string> names;
  std::vector<NamedTensor> tensors;
  names.reserve(static_cast<std::size_t>(program.weight_count));
  for (const WeightEntry& entry : program.weights)
    for (std::int32_t copy = 0; copy < entry.copies; ++copy) {
      names.push_back(expanded_path(program, entry.path, entry.loop, copy));
      tensors.push_back({names.back(), TensorView(nullptr, bf16, entry.shape())});
    }
  const std::string header = safetensors_header_text(tensors, {});
  std::ofstream file(path, std::ios::binary);
  for (std::size_t i = 0; i < 8; ++i) file.put(static_cast<char>(header.size() >> (8 * i) & 0xFFU));
  file << header;
  Values values(1, 0.02f);
  std::int64_t end = static_cast<std::int64_t>(8 + header.size());
  auto tensor = tensors.begin();
  for (const WeightEntry& entry : program.weights)
    for (std::int32_t block = 0; block < entry.copies; ++block, ++tensor) {
      file.seekp(end);
      end += tensor->tensor.bytes();
      for (std::int64_t left = block < filled ? tensor->tensor.bytes() : 0; left > 0;) {
        const std::span<const std::byte> piece = values.next(left);
        file.write(reinterpret_cast<const char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
        left -= std::ssize(piece);
      }
    }
  file.close();
  if (!file) throw error(ErrorCode::io, concat(path, ": expected room for its blocks"));
  std::filesystem::resize_file(path, static_cast<std::uintmax_t>(end));
  settle(path);
}

/// A PEFT folder with bf16 factors for the first `blocks` of the blocks. Returns the folder.
inline std::string write_adapter(const Program& program, const std::string& folder, std::int64_t rank,
                                 std::int64_t blocks) {
  Values values(2, 0.02f);
  std::vector<std::string> names;
  std::vector<NamedTensor> tensors;
  names.reserve(static_cast<std::size_t>(2 * program.slot_count));
  const auto add = [&](std::string name, std::array<std::int64_t, 2> shape) {
    names.push_back(std::move(name));
    tensors.push_back({names.back(), TensorView(values.next_whole(shape[0] * shape[1] * 2), bf16, shape)});
  };
  for (const SlotEntry& entry : program.slots)
    for (std::int32_t block = 0; block < blocks; ++block) {
      const std::string path = "base_model.model." + expanded_path(program, entry.path, entry.loop, block);
      add(path + ".lora_A.weight", {rank, entry.in});
      add(path + ".lora_B.weight", {entry.out, rank});
    }
  std::filesystem::create_directories(folder);
  write_safetensors(folder + "/adapter_model.safetensors", tensors);
  std::ofstream(folder + "/adapter_config.json")
      << concat(R"({"peft_type": "LORA", "r": )", rank, R"(, "lora_alpha": )", rank, "}");
  settle(folder + "/adapter_model.safetensors");
  return folder;
}

} // namespace tenon::bench
