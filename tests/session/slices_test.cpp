// SPDX-License-Identifier: Apache-2.0
// Adapters for fused and for separate projections attach to nets of either form: what they change, beside the weights and
// merged, against products in float64. The base is zero, so that a net gives the change alone.
#include "session/fixture.hpp"

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

constexpr std::int64_t D = 4;

/// Grouped heads: q is wider than k and v.
using Fused = Repeat<
    "layers", 2,
    Graph<Inputs<"x">,
          Let<"all", Scope<"attn", Linear<"qkv", D, 10, Slices<Slice<"q", 6>, Slice<"k", 2>, Slice<"v", 2>>>>,
              "x">,
          Let<"y", Linear<"out", 10, D>, "all">, Outputs<"y">>>;
template <class... Parts>
using FusedOnce = Scope<"attn", Linear<"qkv", D, 10, Slices<Parts...>>>;
using FusedLayer = FusedOnce<Slice<"q", 6>, Slice<"k", 2>, Slice<"v", 2>>;
using SplitLayer =
    Scope<"attn", Graph<Inputs<"x">, Let<"a", Linear<"q", D, 6, SliceOf<"qkv", 0, 10>>, "x">,
                        Let<"b", Linear<"k", D, 2, SliceOf<"qkv", 6, 10>>, "x">,
                        Let<"c", Linear<"v", D, 2, SliceOf<"qkv", 8, 10>>, "x">, Outputs<"a", "b", "c">>>;

/// Two wires are one layer's inputs, or each has a layer.
using FusedInputs = JoinedLinear<"proj", 3, D, 5, InputSlices<Slice<"of_heads", 3>, Slice<"of_mlp", D>>>;
using SplitInputs =
    Graph<Inputs<"a", "b">, Let<"h", Linear<"of_heads", 3, 5, InputSliceOf<"proj", 0, 3 + D>>, "a">,
          Let<"m", Linear<"of_mlp", D, 5, NoBias, InputSliceOf<"proj", 3, 3 + D>>, "b">,
          Let<"y", Add, "h", "m">, Outputs<"y">>;

/// B A * alpha / rank [out, in], in double.
struct Delta {
  std::int64_t out = 0;
  std::int64_t in = 0;
  std::vector<double> values{};
};

/// A file of LoRAs.
class LoraFile {
 public:
  explicit LoraFile(std::string prefix = "diffusion_model.") : prefix_(std::move(prefix)) {}

  /// Returns what it changes.
  Delta add(const std::string& module, std::int64_t out, std::int64_t in, std::int64_t rank,
            bool is_kohya = false) {
    const float alpha = static_cast<float>(rank) * 1.5f;
    const auto draw = [this](std::int64_t size) {
      std::vector<float> values(static_cast<std::size_t>(size));
      for (float& value : values) value = std::normal_distribution<float>(0.0f, 0.5f)(random_);
      return values;
    };
    const std::vector<float> a = draw(rank * in);
    const std::vector<float> b = draw(out * rank);
    Delta delta{out, in, std::vector<double>(static_cast<std::size_t>(out * in))};
    for (std::int64_t i = 0; i < out; ++i)
      for (std::int64_t j = 0; j < in; ++j)
        for (std::int64_t r = 0; r < rank; ++r)
          delta.values[static_cast<std::size_t>(i * in + j)] +=
              1.5 * static_cast<double>(b[static_cast<std::size_t>(i * rank + r)]) *
              static_cast<double>(a[static_cast<std::size_t>(r * in + j)]);
    put(prefix_ + module + (is_kohya ? ".lora_down.weight" : ".lora_A.weight"), {rank, in}, a);
    put(prefix_ + module + (is_kohya ? ".lora_up.weight" : ".lora_B.weight"), {out, rank}, b);
    put(prefix_ + module + ".alpha", {}, {alpha});
    return delta;
  }
  void put(std::string name, std::vector<std::int64_t> shape, std::vector<float> values) {
    tensors_.add(std::move(name), std::move(shape), std::move(values));
  }
  [[nodiscard]] std::string write(const std::string& path) const { return tensors_.write(path); }

 private:
  std::mt19937 random_{7};
  std::string prefix_;
  FloatTensors tensors_{};
};

/// A model of `Net` whose weights are zeros, and a session.
template <class Net>
struct ZeroBase {
  TemporaryFolder folder{};
  Model<Net> model;
  Session<Net> session;

  ZeroBase() : model(make(folder)), session(model) {}
  static Model<Net> make(const TemporaryFolder& folder) {
    RandomTensors tensors(1, DType::f32, 0.0f);
    const Program& program = program_of<Net>();
    for (const WeightEntry& entry : program.weights)
      for (std::int32_t copy = 0; copy < entry.copies; ++copy)
        tensors.add(expanded_path(program, entry.path, entry.loop, copy),
                    std::vector<std::int64_t>(entry.shape().begin(), entry.shape().end()));
    tensors.write(folder.file("zero.safetensors"));
    return open<Net>(folder.file("zero.safetensors"));
  }
  [[nodiscard]] Adapter<Net> load(const LoraFile& file) const {
    return load_adapter<Net>(file.write(folder.file("lora.safetensors")));
  }
};

/// Whether a slot's weight is `expected` from row `row` and column `col` on.
template <class Net>
void check_block(const Session<Net>& session, const std::string& slot, const Delta& expected,
                 std::int64_t row, std::int64_t col) {
  const TensorView& weight = session.slot_weight(find_slot(program_of<Net>(), slot));
  const auto* const values = reinterpret_cast<const float*>(weight.data);
  for (std::int64_t i = 0; i < expected.out; ++i)
    for (std::int64_t j = 0; j < expected.in; ++j)
      CHECK(static_cast<double>(values[(row + i) * weight.extent(1) + col + j]) ==
            doctest::Approx(expected.values[static_cast<std::size_t>(i * expected.in + j)]).epsilon(1e-6));
}

/// Rows of the identity: a net of one linear gives its weight, transposed.
Tensor identity(std::int64_t size) {
  Tensor x({1, size, size});
  for (std::int64_t i = 0; i < size; ++i) x.values()[static_cast<std::size_t>(i * size + i)] = 1;
  return x;
}

/// y [1, in, width] holds `expected` transposed, from column `col` on, its inputs from row `row` on.
void check_output(std::span<const float> y, std::int64_t width, const Delta& expected, std::int64_t row,
                  std::int64_t col) {
  for (std::int64_t i = 0; i < expected.out; ++i)
    for (std::int64_t j = 0; j < expected.in; ++j)
      CHECK(static_cast<double>(y[static_cast<std::size_t>((row + j) * width + col + i)]) ==
            doctest::Approx(expected.values[static_cast<std::size_t>(i * expected.in + j)]).epsilon(1e-6));
}

/// Rows or columns `first ... first + count - 1` of a change.
Delta rows_of(const Delta& all, std::int64_t first, std::int64_t count) {
  return {count, all.in,
          std::vector<double>(all.values.begin() + first * all.in,
                              all.values.begin() + (first + count) * all.in)};
}
Delta columns_of(const Delta& all, std::int64_t first, std::int64_t count) {
  Delta out{all.out, count, {}};
  for (std::int64_t i = 0; i < all.out; ++i)
    for (std::int64_t j = 0; j < count; ++j)
      out.values.push_back(all.values[static_cast<std::size_t>(i * all.in + first + j)]);
  return out;
}

std::string refusal_of(const auto& load) {
  try {
    (void)load();
  } catch (const load_error& e) {
    return e.what();
  }
  return "not refused";
}

} // namespace

TEST_CASE("Adapters of separate projections attach to the slices of a fused one") {
  ZeroBase<FusedLayer> base;
  LoraFile file;
  const Delta q = file.add("attn.q", 6, D, 2);
  const Delta k = file.add("attn.k", 2, D, 3);
  const Delta v = file.add("attn.v", 2, D, 1);
  const auto adapter = base.load(file);
  CHECK(adapter.report().matched.size() == 3);
  {
    const auto guard = base.session.template attach<merged>(adapter);
    check_block(base.session, "attn.qkv", q, 0, 0);
    check_block(base.session, "attn.qkv", k, 6, 0);
    check_block(base.session, "attn.qkv", v, 8, 0);
  }
  const auto guard = base.session.attach(adapter);
  const Tensor y = base.session(identity(D));
  check_output(y.values(), 10, q, 0, 0);
  check_output(y.values(), 10, k, 0, 6);
  check_output(y.values(), 10, v, 0, 8);
}

TEST_CASE("An adapter of a fused projection attaches to separate ones of unequal sizes") {
  ZeroBase<SplitLayer> base;
  LoraFile file;
  const Delta all = file.add("attn.qkv", 10, D, 3);
  const auto adapter = base.load(file);
  {
    const auto guard = base.session.template attach<merged>(adapter);
    check_block(base.session, "attn.q", rows_of(all, 0, 6), 0, 0);
    check_block(base.session, "attn.k", rows_of(all, 6, 2), 0, 0);
    check_block(base.session, "attn.v", rows_of(all, 8, 2), 0, 0);
  }
  const auto guard = base.session.attach(adapter);
  (void)base.session.run(identity(D));
  const TensorView k = base.session.output(1);
  check_output({reinterpret_cast<const float*>(k.data), static_cast<std::size_t>(k.size())}, 2,
               rows_of(all, 6, 2), 0, 0);
}

TEST_CASE("DoRA of a fused projection goes to separate ones with its magnitudes") {
  ZeroBase<SplitLayer> base; // m V / |V| of zeros and B A: rows of length m
  LoraFile file;
  Delta all = file.add("attn.qkv", 10, D, 3);
  std::vector<float> magnitude(10);
  for (std::size_t i = 0; i < magnitude.size(); ++i) {
    magnitude[i] = 0.5f + 0.25f * static_cast<float>(i);
    double square = 0;
    double* const row = all.values.data() + i * D;
    for (std::int64_t j = 0; j < D; ++j) square += row[j] * row[j];
    for (std::int64_t j = 0; j < D; ++j) row[j] *= static_cast<double>(magnitude[i]) / std::sqrt(square);
  }
  file.put("diffusion_model.attn.qkv.dora_scale", {10, 1}, std::move(magnitude));
  const auto adapter = base.load(file);
  const auto guard = base.session.template attach<merged>(adapter);
  check_block(base.session, "attn.q", rows_of(all, 0, 6), 0, 0);
  check_block(base.session, "attn.k", rows_of(all, 6, 2), 0, 0);
  check_block(base.session, "attn.v", rows_of(all, 8, 2), 0, 0);
}

TEST_CASE("Each form attaches to a net of its own form as well") {
  ZeroBase<FusedLayer> fused;
  LoraFile one;
  const Delta all = one.add("attn.qkv", 10, D, 2);
  const auto whole = fused.load(one);
  const auto fused_guard = fused.session.template attach<merged>(whole);
  check_block(fused.session, "attn.qkv", all, 0, 0);

  ZeroBase<SplitLayer> split;
  LoraFile three;
  const Delta k = three.add("attn.k", 2, D, 2);
  const auto part = split.load(three);
  const auto split_guard = split.session.template attach<merged>(part);
  check_block(split.session, "attn.k", k, 0, 0);
}

TEST_CASE("Slices of the inputs: in the columns of a joined layer, or in layers of their own") {
  ZeroBase<FusedInputs> joined;
  LoraFile two;
  const Delta heads = two.add("of_heads", 5, 3, 2);
  const Delta mlp = two.add("of_mlp", 5, D, 1);
  const auto parts = joined.load(two);
  CHECK(parts.data()->prepared.size() == 2); // A with zeros around it, in the ledger
  {
    const auto guard = joined.session.template attach<merged>(parts);
    check_block(joined.session, "proj", heads, 0, 0);
    check_block(joined.session, "proj", mlp, 0, 3);
  }
  Tensor a({1, D, 3}); // one row reads the second head, the rest nothing
  a.values()[1] = 1;
  Tensor b({1, D, D});
  b.values()[D + 2] = 1; // and the next the third of the other wire
  {
    const auto guard = joined.session.attach(parts);
    const Tensor y = joined.session(a, b);
    check_output(y.values(), 5, columns_of(heads, 1, 1), 0, 0);
    check_output(y.values(), 5, columns_of(mlp, 2, 1), 1, 0);
  }

  ZeroBase<SplitInputs> apart;
  LoraFile one;
  const Delta all = one.add("proj", 5, 3 + D, 2);
  one.put("diffusion_model.proj.diff_b", {5}, {1, 2, 3, 4, 5});
  const auto whole = apart.load(one);
  CHECK(whole.data()->prepared.empty()); // columns are read where they are
  {
    const auto guard = apart.session.template attach<merged>(whole);
    check_block(apart.session, "of_heads", columns_of(all, 0, 3), 0, 0);
    check_block(apart.session, "of_mlp", columns_of(all, 3, D), 0, 0);
  }
  const auto guard = apart.session.attach(whole);
  const Tensor zero_rows = apart.session(Tensor({1, 1, 3}), Tensor({1, 1, D}));
  for (std::size_t i = 0; i < 5; ++i) CHECK(zero_rows.values()[i] == static_cast<float>(i + 1)); // once
}

TEST_CASE("In a Repeat each layer has its slices, also under flattened names") {
  ZeroBase<Fused> base;
  LoraFile file("lora_unet_");
  const Delta k = file.add("layers_1_attn_k", 2, D, 2, true);
  const auto adapter = base.load(file);
  const auto guard = base.session.template attach<merged>(adapter);
  check_block(base.session, "layers.1.attn.qkv", k, 6, 0);
  CHECK(guard.slot_count() == 1);
}

TEST_CASE("What does not fit a slice is refused in a sentence") {
  ZeroBase<FusedLayer> fused;
  LoraFile small;
  (void)small.add("attn.q", 5, D, 2);
  CHECK(refusal_of([&] { return fused.load(small); }).find("expected rows of projection") !=
        std::string::npos);

  LoraFile products;
  for (const char* const part : {"hada_w1_a", "hada_w2_a"})
    products.put(concat("diffusion_model.attn.q.", part), {6, 2}, std::vector<float>(12));
  for (const char* const part : {"hada_w1_b", "hada_w2_b"})
    products.put(concat("diffusion_model.attn.q.", part), {2, D}, std::vector<float>(8));
  CHECK(refusal_of([&] {
          return fused.load(products);
        }).find("cannot be moved between one fused projection and several") != std::string::npos);

  using NoV =
      Scope<"attn", Graph<Inputs<"x">, Let<"a", Linear<"q", D, 6, SliceOf<"qkv", 0, 10>>, "x">,
                          Let<"b", Linear<"k", D, 2, SliceOf<"qkv", 6, 10>>, "x">, Outputs<"a", "b">>>;
  ZeroBase<NoV> partial;
  LoraFile whole;
  (void)whole.add("attn.qkv", 10, D, 2);
  CHECK(refusal_of([&] {
          return partial.load(whole);
        }).find("it is for 10 outputs, of which the net has slots for 8") != std::string::npos);
}

TEST_CASE("A closed slot has no slices") {
  using Closed = Targeted<FusedLayer, Targets<>>;
  static_assert(program_of<Closed>().slices.empty());
  static_assert(program_of<FusedLayer>().slices.size() == 3);
  CHECK(program_of<Fused>().text_of(program_of<Fused>().slices[1].path) == "layers.*.attn.k");
}
