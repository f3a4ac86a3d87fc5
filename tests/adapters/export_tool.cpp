// SPDX-License-Identifier: Apache-2.0
// export_tool FOLDER: writes adapters a, c and d of the combination goldens as PEFT, kohya and diffusers files, from the
// factors that PEFT holds, for export_roundtrip.py to load.
#include <tenon/adapters/export.hpp>
#include <tenon/weights/safetensors.hpp>

#include <iostream>
#include <string>

using namespace tenon;

namespace {

std::vector<float> floats(const TensorView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.size()));
  decode(view.dtype, view.data, view.size(), out.data());
  return out;
}

std::vector<float> turned(const std::vector<float>& from, std::int64_t rows) {
  const auto cols = std::ssize(from) / rows;
  std::vector<float> out(from.size());
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      out[static_cast<std::size_t>(j * rows + i)] = from[static_cast<std::size_t>(i * cols + j)];
  return out;
}

LoraSet read(const SafetensorsFile& file, const std::string& adapter) {
  LoraSet set;
  for (const std::string path : {"fc", "conv", "emb"}) {
    const auto a = file.find(concat(adapter, "/", path, ".A"));
    if (!a) continue;
    const TensorView b = file.at(concat(adapter, "/", path, ".B"));
    LoraModule module{.path = path};
    module.pair = {.out = b.extent(0),
                   .in = a->size() / a->extent(0),
                   .rank = a->extent(0),
                   .scale =
                       *reinterpret_cast<const double*>(file.at(concat(adapter, "/", path, ".scale")).data),
                   .a = floats(*a),
                   .b = floats(b)};
    if (path == "conv") {
      module.target = LoraTarget::convolution;
      module.kernel = {3, 2};
    }
    if (path == "emb") {
      module.target = LoraTarget::embedding;
      std::swap(module.pair.out, module.pair.in);
      module.pair.a = turned(floats(b), module.pair.in);
      module.pair.b = turned(floats(*a), module.pair.rank);
    }
    set.modules.push_back(std::move(module));
  }
  return set;
}

} // namespace

int main(int count, char** arguments) try {
  if (count != 2) {
    std::cerr << "usage: export_tool FOLDER\n";
    return 2;
  }
  const std::string folder = arguments[1];
  const SafetensorsFile file(TENON_TEST_DATA "/goldens/combination/combination_goldens.safetensors",
                             process_ledger(), Category::adapter);
  for (const std::string adapter : {"a", "c", "d"}) {
    LoraSet set = read(file, adapter);
    write_peft(concat(folder, "/", adapter), set);
    write_peft(concat(folder, "/", adapter, "_rslora"), set, {.config = {.is_rank_stabilised = true}});
    std::erase_if(set.modules, [](const LoraModule& m) { return m.target == LoraTarget::embedding; });
    LoraModule& first = set.modules[0]; // fc, with a bias
    for (std::int64_t i = 0; i < first.pair.out; ++i) first.pair.bias.push_back(static_cast<float>(i) / 8);
    std::erase_if(set.modules, [](const LoraModule& m) { return m.target == LoraTarget::convolution; });
    write_peft(concat(folder, "/", adapter, "_bias"), set);
    set = read(file, adapter);
    std::erase_if(set.modules, [](const LoraModule& m) { return m.target == LoraTarget::embedding; });
    set.component = "unet";
    write_kohya(concat(folder, "/", adapter, "_kohya.safetensors"), {&set, 1});
    write_diffusers(concat(folder, "/", adapter, "_diffusers.safetensors"), {&set, 1});
  }
} catch (const std::exception& problem) {
  std::cerr << problem.what() << '\n';
  return 1;
}
