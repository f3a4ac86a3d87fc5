// SPDX-License-Identifier: Apache-2.0
// The programs of examples/tools, driven as a user does: command lines, exit codes, what they print, and what they
// write against the goldens.
#include "support/file_bytes.hpp"
#include "support/files.hpp"
#include "support/kind_goldens.hpp"
#include "support/temporary_folder.hpp"

#include <tenon/weights/checkpoint.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#if !defined(_WIN32)
#include <sys/wait.h>
#endif

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string goldens = TENON_TEST_DATA "/goldens/peft/";

struct Ran {
  int code = 0;
  std::string out{};
  std::string problem{};
};

/// Runs a tool; paths have no spaces or quotes here.
Ran run(const TemporaryFolder& folder, const std::string& line) {
  const std::string command =
      concat(TENON_TOOLS, "/", line, " >", folder.file("stdout"), " 2>", folder.file("stderr"));
  const int status = std::system(command.c_str());
  Ran ran{WEXITSTATUS(status), read_file(folder.file("stdout")), read_file(folder.file("stderr"))};
  return ran;
}

std::map<std::string, std::vector<float>> tensors(const std::string& path) {
  Ledger ledger;
  const Checkpoint file = Checkpoint::open(path, ledger, Category::base_mapped);
  std::map<std::string, std::vector<float>> out;
  for (const CheckpointTensor& tensor : file.tensors()) out.emplace(tensor.name, values_of(tensor.view));
  return out;
}

/// W + weight * the delta that PEFT merges, from its goldens.
std::vector<float> merged(const std::map<std::string, std::vector<float>>& base, const std::string& path,
                          const std::vector<std::pair<std::string, double>>& adapters) {
  Ledger ledger;
  const SafetensorsFile golden(goldens + "tiny_goldens.safetensors", ledger, Category::base_owned);
  std::vector<float> out = base.at(path + ".weight");
  for (const auto& [adapter, weight] : adapters)
    if (const auto delta = golden.find(concat("delta:", adapter, "/", path)))
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] += static_cast<float>(weight * reinterpret_cast<const double*>(delta->data)[i]);
  return out;
}

/// Merges an adapter that a tool wrote, and compares with a sum of PEFT's deltas. Float sums of a few terms: 1e-6.
void check_deltas(const TemporaryFolder& folder, const std::string& adapter,
                  const std::vector<std::pair<std::string, double>>& expected) {
  const std::string out = folder.file("check.safetensors");
  const Ran ran = run(folder, concat("tenon-merge ", goldens, "tiny.safetensors ", out, " ", adapter));
  REQUIRE_MESSAGE(ran.code == 0, ran.problem);
  const auto got = tensors(out);
  const auto base = tensors(goldens + "tiny.safetensors");
  for (const std::string path : {"fc1", "fc2"}) {
    CHECK(largest_difference(got.at(path + ".weight"), merged(base, path, expected)) < 1e-6);
    CHECK(got.at(path + ".bias") == base.at(path + ".bias"));
  }
}

} // namespace

TEST_CASE("Each tool explains itself, and a wrong command line is told from work that fails") {
  const TemporaryFolder folder;
  for (const std::string tool :
       {"tenon-inspect", "tenon-convert", "tenon-merge", "tenon-extract", "tenon-resize", "tenon-combine"}) {
    CAPTURE(tool);
    const Ran help = run(folder, tool + " --help");
    CHECK(help.code == 0);
    CHECK(help.out.find("Usage: " + tool) != std::string::npos);
    CHECK(run(folder, tool).code == 2);
    CHECK(run(folder, tool + " --no-such-option").code == 2);
    const Ran missing = run(folder, tool + " nowhere.safetensors nowhere2.safetensors nowhere3.safetensors");
    CHECK(missing.code ==
          (tool == "tenon-inspect" || tool == "tenon-convert" || tool == "tenon-resize" ? 2 : 1));
    CHECK(missing.problem.find("nowhere") != std::string::npos);
  }
  const Ran ran = run(folder, "tenon-inspect nowhere.safetensors");
  CHECK(ran.code == 1);
  CHECK(ran.problem == "tenon-inspect: nowhere.safetensors: expected a file that can be opened, got No such "
                       "file or directory\n");
}

TEST_CASE("tenon-inspect says what is in a file, and how it fits a model") {
  const TemporaryFolder folder;
  const Ran alone = run(folder, concat("tenon-inspect -l ", goldens, "patterns"));
  CHECK(alone.code == 0);
  for (const char* line : {"dialect    PEFT, LORA\n", "kind       LoRA of rank 2, 1 modules\n",
                           "kind       LoRA of rank 3, 1 modules\n", "dtype      F32, 328 B\n"})
    CHECK(alone.out.find(line) != std::string::npos);
  CHECK(alone.out.find("fc2                LoRA  3     8      F32    168 B\n") != std::string::npos);
  const Ran fits =
      run(folder, concat("tenon-inspect ", goldens, "patterns -m ", goldens, "tiny.safetensors"));
  CHECK(fits.code == 0);
  CHECK(fits.out.find("2 modules of ") != std::string::npos);
  const Ran other =
      run(folder, concat("tenon-inspect ", goldens, "patterns -m ", kind_goldens("base.safetensors")));
  CHECK(other.code == 1);
  CHECK(other.problem.find("unmatched key: base_model.model.fc1.lora_A.weight") != std::string::npos);
  const Ran kinds = run(folder, concat("tenon-inspect ", kind_goldens("lycoris/loha-bf16.safetensors")));
  CHECK(kinds.out.find("kind       LoHa of rank ") != std::string::npos);
}

TEST_CASE("tenon-merge writes the weights that PEFT merges, of several adapters at their weights") {
  const TemporaryFolder folder;
  check_deltas(folder, goldens + "plain", {{"plain", 1}});
  check_deltas(
      folder,
      concat(goldens, "plain=0.25 ", goldens, "rslora ", goldens, "patterns=-1 ", goldens, "my_adapter=2"),
      {{"plain", 0.25}, {"rslora", 1}, {"patterns", -1}, {"my_adapter", 2}});
  const Ran over = run(folder, concat("tenon-merge ", goldens, "tiny.safetensors ", goldens,
                                      "tiny.safetensors ", goldens, "plain"));
  CHECK(over.code == 1);
  CHECK(over.problem.ends_with("tiny.safetensors: expected another place than the input's, got the input\n"));
}

TEST_CASE("tenon-convert keeps the deltas through every format") {
  const TemporaryFolder folder;
  const std::string model = concat(" -m ", goldens, "tiny.safetensors");
  for (const std::string adapter : {"plain", "rslora", "patterns"}) {
    CAPTURE(adapter);
    for (const std::string format : {"peft", "kohya", "diffusers"}) {
      CAPTURE(format);
      const std::string first = folder.file(format == "peft" ? "first" : "first.safetensors");
      const Ran there = run(folder, concat("tenon-convert ", goldens, adapter, " ", first, " -t ", format));
      REQUIRE_MESSAGE(there.code == 0, there.problem);
      CHECK(there.out == "2 modules\n"); // LoRA: no error to state
      check_deltas(folder, first, {{adapter, 1}});
      const Ran back =
          run(folder, concat("tenon-convert ", first, " ", folder.file("back"), " --rslora", model));
      REQUIRE_MESSAGE(back.code == 0, back.problem);
      check_deltas(folder, folder.file("back"), {{adapter, 1}});
    }
  }
  run(folder, concat("tenon-convert ", goldens, "plain ", folder.file("k.safetensors"), " -t kohya"));
  const Ran flattened =
      run(folder, concat("tenon-convert ", folder.file("k.safetensors"), " ", folder.file("p")));
  CHECK(flattened.code == 1);
  CHECK(flattened.problem.find("name the model's checkpoint (--model)") != std::string::npos);
}

TEST_CASE("tenon-convert makes plain LoRA of another kind, for the model that it is for") {
  const TemporaryFolder folder;
  const std::string model = kind_goldens("base.safetensors");
  const std::string adapter = kind_goldens("peft/dora-patterns");
  const Ran ran = run(folder, concat("tenon-convert ", adapter, " ", folder.file("lora"), " -v -m ", model));
  REQUIRE_MESSAGE(ran.code == 0, ran.problem);
  CHECK(ran.out.find("of the energy, error ") != std::string::npos);
  for (const std::string& one : {adapter, folder.file("lora")})
    REQUIRE(run(folder, concat("tenon-merge ", model, " ",
                               folder.file(one == adapter ? "a.safetensors" : "b.safetensors"), " ", one))
                .code == 0);
  const auto a = tensors(folder.file("a.safetensors"));
  for (const auto& [name, values] : tensors(folder.file("b.safetensors"))) // the full rank: floats' rounding
    CHECK(largest_difference(values, a.at(name)) < 2e-6);
  const Ran without = run(folder, concat("tenon-convert ", adapter, " ", folder.file("lora")));
  CHECK(without.code == 1);
  CHECK(without.problem.find("got DoRA; name the model's checkpoint") != std::string::npos);
}

TEST_CASE("tenon-extract finds what tenon-merge put in") {
  const TemporaryFolder folder;
  REQUIRE(run(folder, concat("tenon-merge ", goldens, "tiny.safetensors ", folder.file("m.safetensors"), " ",
                             goldens, "patterns"))
              .code == 0);
  const Ran ran =
      run(folder, concat("tenon-extract ", goldens, "tiny.safetensors ", folder.file("m.safetensors"), " ",
                         folder.file("x"), " --energy 0.999999 -v"));
  REQUIRE_MESSAGE(ran.code == 0, ran.problem);
  CHECK(ran.out.find("rank 2 ") != std::string::npos); // fc1
  CHECK(ran.out.find("rank 3 ") != std::string::npos); // fc2
  CHECK(ran.out.ends_with("0 whole differences, 2 tensors unchanged, 0 left out\n"));
  check_deltas(folder, folder.file("x"), {{"patterns", 1}});
}

TEST_CASE("tenon-resize states what it loses, and keeps the format") {
  const TemporaryFolder folder;
  const Ran same = run(folder, concat("tenon-resize ", goldens, "rslora ", folder.file("r"), " -r 5"));
  REQUIRE_MESSAGE(same.code == 0, same.problem);
  check_deltas(folder, folder.file("r"), {{"rslora", 1}});
  const Ran less = run(folder, concat("tenon-resize ", goldens, "rslora ", folder.file("r"), " -r 2 -v"));
  REQUIRE(less.code == 0);
  CHECK(less.out.find("rank 2     kept ") != std::string::npos);
  CHECK(tensors(folder.file("r/adapter_model.safetensors")).at("base_model.model.fc1.lora_A.weight").size() ==
        2 * 12);
  CHECK(run(folder, concat("tenon-resize ", goldens, "rslora ", folder.file("r"), " -r 0")).code == 2);

  // what a file says of itself stays, but for what is no longer so
  const std::string kohya = folder.file("k.safetensors");
  run(folder,
      concat("tenon-convert ", goldens, "rslora ", kohya, " -t kohya --metadata ss_output_name=mine"));
  REQUIRE(run(folder, concat("tenon-resize ", kohya, " ", folder.file("s.safetensors"), " -r 3")).code == 0);
  Ledger ledger;
  const SafetensorsFile small(folder.file("s.safetensors"), ledger, Category::adapter);
  const auto line = [&](const char* key) {
    const std::string* const value = small.header().metadata_value(key);
    return value == nullptr ? std::string("none") : *value;
  };
  CHECK(line("ss_output_name") == "mine");
  CHECK(line("ss_network_dim") == "3");
}

TEST_CASE("tenon-combine sums adapters exactly, and names what a method asks for") {
  const TemporaryFolder folder;
  const std::string inputs = concat(goldens, "plain=0.5 ", goldens, "rslora ", goldens, "patterns=-1");
  const std::vector<std::pair<std::string, double>> expected{{"plain", 0.5}, {"rslora", 1}, {"patterns", -1}};
  const Ran cat = run(folder, concat("tenon-combine ", folder.file("c"), " ", inputs));
  REQUIRE_MESSAGE(cat.code == 0, cat.problem);
  check_deltas(folder, folder.file("c"), expected);
  const Ran svd = run(folder, concat("tenon-combine ", folder.file("c.safetensors"), " ", inputs,
                                     " --method svd -r 8 -t kohya"));
  REQUIRE_MESSAGE(svd.code == 0, svd.problem);
  CHECK(svd.out.starts_with("2 modules, largest relative error "));
  check_deltas(folder, folder.file("c.safetensors"), expected);
  const Ran ties =
      run(folder, concat("tenon-combine ", folder.file("t"), " ", inputs, " --method ties --density 0.5"));
  CHECK(ties.code == 1);
  CHECK(ties.problem.find("since ties works on A and B") != std::string::npos);
  CHECK(run(folder, concat("tenon-combine ", folder.file("t"), " ", inputs,
                           " --method dare_ties_svd --density 0.5 --seed 7"))
            .code == 0);
  CHECK(run(folder, concat("tenon-combine ", folder.file("t"), " ", inputs, " --method best")).code == 2);
}
