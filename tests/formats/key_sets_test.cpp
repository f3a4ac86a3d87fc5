// SPDX-License-Identifier: Apache-2.0
// The keys of the big tools' adapters, at the models' real size, find the modules that diffusers' own converters map
// them to: tests/goldens/kinds/keys and models.
#include "support/table.hpp"

#include <tenon/formats/dialects.hpp>
#include <tenon/formats/name_table.hpp>

#include <doctest/doctest.h>

#include <set>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string folder = TENON_TEST_DATA "/goldens/kinds/";

std::vector<std::string> column(const std::string& model, std::size_t index) {
  std::vector<std::string> names;
  for (const std::vector<std::string>& row : read_table(folder + "models/" + model + ".tsv"))
    if (row.at(index) != "-") names.push_back(row[index]);
  return names;
}

/// The modules that a cell of the mapped column names.
std::set<std::string> mapped_modules(const std::string& cell) {
  std::set<std::string> out;
  for (std::size_t at = 0; at < cell.size();) {
    const std::size_t end = std::min(cell.find(" + ", at), cell.size());
    const std::string key = cell.substr(at, end - at);
    at = end == cell.size() ? end : end + 3;
    std::optional<AdapterKey> parsed = parse_key(*find_dialect("diffusers"), key);
    if (!parsed) parsed = parse_key(*find_dialect("plain paths"), key);
    if (parsed) out.insert(parsed->module);
  }
  return out;
}

struct KeySet {
  const char* file;
  const char* dialect;
  std::vector<std::pair<std::string, std::string>> models; ///< component and table
};

const std::vector<KeySet> key_sets{
    {"kohya_sd15", "kohya", {{"denoiser", "sd15_unet"}, {"text_encoder", "clip_l"}}},
    {"kohya_sdxl",
     "kohya",
     {{"denoiser", "sdxl_unet"}, {"text_encoder", "clip_l"}, {"text_encoder_2", "clip_g"}}},
    {"onetrainer_sdxl",
     "kohya",
     {{"denoiser", "sdxl_unet"}, {"text_encoder", "clip_l"}, {"text_encoder_2", "clip_g"}}},
    {"diffusers_sdxl",
     "diffusers",
     {{"denoiser", "sdxl_unet"}, {"text_encoder", "clip_l"}, {"text_encoder_2", "clip_g"}}},
    {"diffusers_old_sd15", "diffusers", {{"denoiser", "sd15_unet"}, {"text_encoder", "clip_l"}}},
    {"kohya_flux", "kohya", {{"denoiser", "flux"}, {"text_encoder", "clip_l"}}},
    {"onetrainer_flux", "kohya", {{"denoiser", "flux"}, {"text_encoder", "clip_l"}}},
    {"diffusers_flux", "diffusers", {{"denoiser", "flux"}, {"text_encoder", "clip_l"}}},
    {"comfy_flux", "ComfyUI", {{"denoiser", "flux"}}},
    {"comfy_flux_ab", "ComfyUI", {{"denoiser", "flux"}}},
    {"omi_flux", "OMI", {{"denoiser", "flux"}, {"text_encoder", "clip_l"}}},
    {"xlabs_flux", "plain paths", {{"", "flux"}}},
    {"comfy_wan_i2v", "ComfyUI", {{"denoiser", "wan21_i2v_14b"}}},
    {"comfy_wan_t2v", "ComfyUI", {{"denoiser", "wan21_t2v_14b"}}},
    {"diffsynth_wan_i2v", "plain paths", {{"", "wan21_i2v_14b"}}},
    {"diffusers_wan_t2v", "diffusers", {{"denoiser", "wan21_t2v_14b"}}},
    {"musubi_wan_i2v", "kohya", {{"denoiser", "wan21_i2v_14b"}}},
};

} // namespace

TEST_CASE("Keys of the big tools find the modules that diffusers maps them to") {
  for (const KeySet& set : key_sets) {
    CAPTURE(std::string(set.file));
    const Dialect& dialect = *find_dialect(set.dialect);
    std::vector<std::pair<std::string, NameTable>> tables;
    for (const auto& [component, model] : set.models)
      tables.emplace_back(component, NameTable(column(model, 0)));
    int compared = 0;
    for (const std::vector<std::string>& row : read_table(folder + "keys/" + set.file + ".tsv")) {
      CAPTURE(row[0]);
      const std::optional<AdapterKey> key = parse_key(dialect, row[0]);
      REQUIRE(key);
      NameTable* table = nullptr;
      for (auto& [component, names] : tables)
        if (component == key->component) table = &names;
      REQUIRE(table != nullptr);
      const auto found = dialect.style == NameStyle::flattened ? table->find_flattened(key->module).modules
                                                               : table->find(key->module);
      REQUIRE_FALSE(found.empty());
      const std::set<std::string> expected = mapped_modules(row.at(3));
      if (expected.empty()) continue; // alpha, folded into the others
      std::set<std::string> ours;
      for (const NamedModule& module : found)
        ours.insert(table->names()[static_cast<std::size_t>(module.module)]);
      CHECK(ours == expected);
      ++compared;
    }
    CHECK(compared > 20);
  }
}

TEST_CASE("Models under their original names take adapters that use diffusers' names") {
  for (const char* model : {"sdxl_unet", "sd15_unet", "wan21_i2v_14b", "wan21_t2v_14b"}) {
    CAPTURE(std::string(model));
    NameTable originals(column(model, 2));
    for (const std::vector<std::string>& row : read_table(folder + "models/" + model + ".tsv")) {
      if (row.at(2) == "-") continue;
      CAPTURE(row[0]);
      const auto found = originals.find(row[0]);
      CHECK(found.size() == 1);
      if (found.empty()) continue;
      CHECK(originals.names()[static_cast<std::size_t>(found[0].module)] == row[2]);
    }
  }
  // FLUX.1: the original fuses projections
  NameTable fused(column("flux_bfl", 0));
  for (const std::vector<std::string>& row : read_table(folder + "models/flux_bfl.tsv")) {
    std::int32_t part = 0;
    for (std::size_t at = 0; at < row.at(2).size();) {
      const std::size_t end = std::min(row[2].find(" + ", at), row[2].size());
      const std::string ours = row[2].substr(at, end - at);
      at = end == row[2].size() ? end : end + 3;
      if (ours == "-") continue;
      CAPTURE(ours);
      const auto found = fused.find(ours);
      CHECK(found.size() == 1);
      if (found.empty()) continue;
      CHECK(fused.names()[static_cast<std::size_t>(found[0].module)] == row[0]);
      CHECK(found[0].part == part++);
    }
  }
}

TEST_CASE("No two modules of a real model share a flattened name") {
  for (const char* model :
       {"sdxl_unet", "sd15_unet", "flux", "flux_bfl", "wan21_i2v_14b", "clip_l", "clip_g"}) {
    CAPTURE(std::string(model));
    NameTable table(column(model, 0));
    for (const std::string& name : table.names())
      CHECK_FALSE(table.find_flattened(NameTable::flatten(name)).is_ambiguous);
  }
}
