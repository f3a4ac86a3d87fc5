// SPDX-License-Identifier: Apache-2.0
#include <tenon/formats/name_table.hpp>

#include <doctest/doctest.h>

using namespace tenon;

namespace {

std::string first(NameTable& table, std::string_view name) {
  const auto found = table.find(name);
  return found.empty() ? "-" : table.names()[static_cast<std::size_t>(found[0].module)];
}
std::string flat(NameTable& table, std::string_view name) {
  const NameList::Flat found = table.find_flattened(name);
  if (found.is_ambiguous) return "ambiguous";
  return found.modules.empty() ? "-" : table.names()[static_cast<std::size_t>(found.modules[0].module)];
}

} // namespace

TEST_CASE("A model's own names are found whole and never by a part of them") {
  NameTable table({"a.b", "a.b.c", "x_y.z"});
  CHECK(first(table, "a.b") == "a.b");
  CHECK(first(table, "a.b.c") == "a.b.c");
  CHECK(first(table, "b.c") == "-");
  CHECK(first(table, "x.y.z") == "-");
  CHECK(flat(table, "x_y_z") == "x_y.z");
  CHECK(flat(table, "a_b_c") == "a.b.c");
  CHECK(flat(table, "b_c") == "-");
}

TEST_CASE("A flattened name that two modules share matches neither") {
  NameTable table({"a_b.c", "a.b_c", "d.e"});
  CHECK(flat(table, "a_b_c") == "ambiguous");
  CHECK(flat(table, "d_e") == "d.e");
}

TEST_CASE("The other naming of an architecture is known in both directions") {
  NameTable theirs({"blocks.7.self_attn.q", "blocks.7.cross_attn.k_img", "blocks.7.ffn.2", "head.head"});
  CHECK(first(theirs, "blocks.7.attn1.to_q") == "blocks.7.self_attn.q");
  CHECK(first(theirs, "blocks.7.attn2.add_k_proj") == "blocks.7.cross_attn.k_img");
  CHECK(flat(theirs, "blocks_7_ffn_net_2") == "blocks.7.ffn.2");
  CHECK(first(theirs, "proj_out") == "head.head");
  NameTable ours({"blocks.7.attn1.to_q", "blocks.7.ffn.net.2"});
  CHECK(first(ours, "blocks.7.self_attn.q") == "blocks.7.attn1.to_q");
  CHECK(flat(ours, "blocks_7_ffn_2") == "blocks.7.ffn.net.2");
}

TEST_CASE("Blocks that the original UNet numbers through") {
  NameTable ours({"down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "up_blocks.2.resnets.1.conv1",
                  "down_blocks.0.downsamplers.0.conv", "mid_block.attentions.0.proj_in"});
  CHECK(first(ours, "input_blocks.4.1.transformer_blocks.0.attn1.to_q") == ours.names()[0]);
  CHECK(flat(ours, "output_blocks_7_0_in_layers_2") == ours.names()[1]);
  CHECK(flat(ours, "input_blocks_3_0_op") == ours.names()[2]);
  CHECK(first(ours, "middle_block.1.proj_in") == ours.names()[3]);
  NameTable theirs({"input_blocks.4.1.transformer_blocks.0.attn1.to_q"});
  CHECK(first(theirs, "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q") == theirs.names()[0]);
}

TEST_CASE("A fused projection is several modules in order and the reverse") {
  NameTable split(
      {"transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_k", "transformer_blocks.0.attn.to_v"});
  const auto parts = split.find("double_blocks.0.img_attn.qkv");
  REQUIRE(parts.size() == 3);
  for (std::int32_t i = 0; i < 3; ++i) {
    const NamedModule& part = parts[static_cast<std::size_t>(i)];
    CHECK(part.module == i);
    CHECK(part.part == i);
    CHECK(part.share == NameShare::part);
    CHECK(part.is_fused);
  }
  NameTable fused({"double_blocks.0.img_attn.qkv"});
  const auto one = fused.find("transformer_blocks.0.attn.to_k");
  REQUIRE(one.size() == 1);
  CHECK(one[0].part == 1);
  CHECK(one[0].parts == 3);
  CHECK_FALSE(one[0].is_fused);
}

TEST_CASE("A model's own name goes before what a rule makes of another") {
  NameTable table({"head.head", "proj_out"});
  CHECK(first(table, "proj_out") == "proj_out");
  CHECK(first(table, "head.head") == "head.head");
}

TEST_CASE("The nearest of the model's names is told for a flattened one too") {
  const NameTable table({"down.attn.to_q", "up.attn.to_q"});
  CHECK(table.nearest("down.attn.to_k", false) == "down.attn.to_q");
  CHECK(table.nearest("down_attn_to_k", true) == "down.attn.to_q");
}
