// SPDX-License-Identifier: Apache-2.0
// libFuzzer over adapters: mutated key sets, shapes and configurations against a small model. Each is refused with
// a sentence or a finding, or fits: then every module of the file is among what matched, every view lies in the
// weight it is for, and merging touches nothing else. Input: lines `key 2x12 F32`, and after a line `---` the text
// of an adapter_config.json.
#include <tenon/adapters/bind.hpp>
#include <tenon/adapters/merged_weight.hpp>
#include <tenon/weights/safetensors_writer.hpp>

#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

const std::string& folder() {
  static const std::string path = [] {
    const std::filesystem::path shm = "/dev/shm";
    const auto root = std::filesystem::exists(shm) ? shm : std::filesystem::temp_directory_path();
    const auto made = root / ("tenon_adapter_fuzz_" + std::to_string(getpid()));
    std::filesystem::create_directories(made);
    static const struct Remove {
      std::filesystem::path path;
      ~Remove() { std::filesystem::remove_all(path); }
    } remove{made};
    return made.string();
  }();
  return path;
}

struct Line {
  std::string key{};
  std::vector<std::int64_t> shape{};
  tenon::DType dtype = tenon::DType::f32;
};

/// Nothing for a line that is none, or whose tensor is larger than any of the model's weights.
bool read_line(std::string_view text, Line& out) {
  const std::size_t space = text.rfind(' ');
  if (space == std::string_view::npos) return false;
  const auto dtype = tenon::dtype_from_name(text.substr(space + 1));
  text = text.substr(0, space);
  const std::size_t before = text.rfind(' ');
  if (!dtype || before == std::string_view::npos) return false;
  out.dtype = *dtype;
  out.key = text.substr(0, before);
  std::string_view dims = text.substr(before + 1);
  std::int64_t size = 1;
  while (!dims.empty()) {
    std::int64_t extent = 0;
    const auto [end, problem] = std::from_chars(dims.data(), dims.data() + dims.size(), extent);
    if (problem != std::errc{} || extent < 0 || extent > 4096 || out.shape.size() == 6) return false;
    out.shape.push_back(extent);
    size *= extent;
    if (size > 8192) return false;
    dims.remove_prefix(static_cast<std::size_t>(end - dims.data()));
    if (!dims.empty() && dims.front() == 'x') dims.remove_prefix(1);
  }
  return tenon::is_utf8(out.key);
}

const tenon::Checkpoint& base() {
  static const tenon::Checkpoint checkpoint = [] {
    static std::vector<float> values(8192);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) * 0.125f - 1.0f;
    std::vector<tenon::NamedTensor> tensors;
    const auto add = [&](std::string_view name, std::vector<std::int64_t> shape) {
      tensors.push_back({name, tenon::TensorView(values.data(), tenon::DType::f32, shape)});
    };
    add("attn.q.weight", {16, 12});
    add("attn.k.weight", {16, 12});
    add("attn.k.bias", {16});
    add("conv.three.weight", {12, 8, 3, 3});
    add("embed.weight", {20, 12});
    add("norm.weight", {16});
    add("norm.bias", {16});
    add("transformer_blocks.0.attn.to_q.weight", {6, 8});
    add("transformer_blocks.0.attn.to_k.weight", {6, 8});
    add("transformer_blocks.0.attn.to_v.weight", {6, 8});
    add("single_blocks.0.linear1.weight", {20, 8});
    const std::string path = folder() + "/base.safetensors";
    tenon::write_safetensors(path, tensors);
    return tenon::Checkpoint::open(path, tenon::process_ledger(), tenon::Category::base_mapped);
  }();
  return checkpoint;
}

void write_adapter(std::span<const Line> lines, std::string_view config) {
  static const std::vector<float> values(16384, 0.25f);
  std::set<std::string_view> names;
  std::vector<tenon::NamedTensor> tensors;
  for (const Line& line : lines)
    if (names.insert(line.key).second && line.key != "__metadata__")
      tensors.push_back({line.key, tenon::TensorView(values.data(), line.dtype, line.shape)});
  tenon::write_safetensors(folder() + "/adapter_model.safetensors", tensors);
  std::ofstream(folder() + "/adapter_config.json", std::ios::binary) << config;
}

void check(const tenon::AdapterData& data, const tenon::AdapterTargets& targets, std::size_t modules) {
  if (data.report.findings.empty()) require(data.report.matched.size() >= modules);
  for (const tenon::SlotFactors& factors : data.factors) {
    const tenon::AdapterTarget& target = targets.at(factors.slot);
    require(factors.a.cols == target.cols && factors.a.rows == factors.b.cols);
    require(factors.first_row >= 0 && factors.first_row + factors.b.rows <= target.rows);
  }
  const tenon::AdapterAt at{&data, 0.5};
  tenon::Ledger ledger;
  for (std::int32_t slot = 0; slot < std::ssize(targets.list); ++slot) {
    const tenon::AdapterTarget& target = targets.at(slot);
    std::vector<float> out(static_cast<std::size_t>(target.rows * target.cols));
    tenon::MergedWeight weight(slot, tenon::flat_matrix(target.weight->view), {&at, 1}, ledger);
    weight.write_rows(0, target.rows, reinterpret_cast<std::byte*>(out.data()));
    std::vector<float> bias(static_cast<std::size_t>(target.bias > 0 ? target.bias : target.rows));
    (void)tenon::merge_bias(slot, tenon::flat_matrix(target.weight->view),
                            target.bias_tensor == nullptr ? tenon::kernels::WeightVector{}
                                                          : tenon::flat_vector(target.bias_tensor->view),
                            {&at, 1}, bias, ledger);
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t mark = text.find("---\n");
  const std::string_view config = mark == std::string_view::npos ? std::string_view{} : text.substr(mark + 4);
  text = text.substr(0, mark);
  std::vector<Line> lines;
  while (!text.empty() && lines.size() < 24) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (Line line; read_line(text.substr(0, end), line)) lines.push_back(std::move(line));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  static tenon::AdapterTargets targets = tenon::targets_of(base());
  try {
    write_adapter(lines, config);
    tenon::AdapterFile file = tenon::AdapterFile::open(folder());
    const std::size_t modules = file.modules().size();
    const auto adapter = tenon::bind_adapter(file, targets);
    check(*adapter, targets, modules);
  } catch (const tenon::error&) { // refused with a sentence
  }
  return 0;
}
