// SPDX-License-Identifier: Apache-2.0
// PEFT's GLoRA in every mode: strengths, several together, 16-bit weights, fused and separate projections. That it
// computes what PEFT does at strength 1 is kinds_of_session_test's to say; here its change is taken from float64.
#include "session/fixture.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <optional>
#include <tuple>

using namespace tenon;
using namespace tenon::test;

namespace {

constexpr std::int64_t D = 5;
constexpr std::int64_t out = 10;
using Layer = Scope<"attn", Linear<"qkv", D, out, Slices<Slice<"q", 6>, Slice<"k", 2>, Slice<"v", 2>>>>;
using SplitLayer =
    Scope<"attn", Graph<Inputs<"x">, Let<"a", Linear<"q", D, 6, SliceOf<"qkv", 0, 10>>, "x">,
                        Let<"b", Linear<"k", D, 2, SliceOf<"qkv", 6, 10>>, "x">,
                        Let<"c", Linear<"v", D, 2, SliceOf<"qkv", 8, 10>>, "x">, Outputs<"a", "b", "c">>>;

using Values = std::vector<float>;

Values drawn(std::int64_t size, std::uint32_t seed) {
  std::mt19937 random(seed);
  Values values(static_cast<std::size_t>(size));
  for (float& value : values) value = std::normal_distribution<float>(0.0f, 0.5f)(random);
  return values;
}

/// W [rows, D] and b [rows], and what an adapter makes of them, in float64.
struct Exact {
  std::vector<double> w, b;
};

/// One module's tensors, of one of three forms, and its formula written plainly.
class GloraFile {
 public:
  enum class Form { products, vectors, numbers };

  GloraFile(const std::string& module, std::int64_t rows, Form form, std::uint32_t seed) : rows_(rows) {
    const std::string path = "base_model.model." + module + ".glora_";
    const bool is_product = form == Form::products;
    const std::int64_t outputs = form == Form::numbers ? 1 : rows;
    for (const std::string which : {"A", "B"}) {
      Values& into = which == "A" ? a_ : b_;
      if (!is_product) {
        const Values x = put(path + which + ".X", outputs == 1 ? Shape{1} : Shape{rows, 1}, seed++);
        for (std::int64_t i = 0; i < rows * D; ++i) into.push_back(x[outputs == 1 ? 0 : index(i / D)]);
        continue;
      }
      const Values xd = put(path + which + ".Xd", {rows, 3}, seed++);
      const Values xu = put(path + which + ".Xu", {3, D}, seed++);
      into = product(xd, xu, rows, D);
    }
    c_ = is_product ? product(put(path + "C.Xd", {D, 3}, seed), put(path + "C.Xu", {3, 1}, seed + 1), D, 1)
                    : put(path + "C.X", {D, 1}, seed);
    for (const std::string which : {"D", "E"}) {
      const Values x = put(path + which + ".X", {outputs}, seed += 2);
      Values& into = which == "D" ? d_ : e_;
      for (std::int64_t i = 0; i < rows; ++i) into.push_back(x[outputs == 1 ? 0 : index(i)]);
    }
  }

  /// Adds s times the change of rows [first, first + rows) of the pristine `base` to the same rows of `to`.
  void change(const Exact& base, double s, Exact& to, std::int64_t first = 0) const {
    for (std::int64_t i = 0; i < rows_; ++i) {
      const std::size_t row = index(first + i);
      double of_weight = 0;
      for (std::int64_t j = 0; j < D; ++j) {
        const double w = base.w[row * index(D) + index(j)];
        const std::size_t at = index(i * D + j);
        to.w[row * index(D) + index(j)] +=
            s * (w * static_cast<double>(a_[at]) + static_cast<double>(b_[at]));
        of_weight += w * static_cast<double>(c_[index(j)]);
      }
      to.b[row] += s * (base.b[row] * static_cast<double>(d_[index(i)]) + static_cast<double>(e_[index(i)]) +
                        of_weight);
    }
  }
  void write(const std::string& folder) const {
    std::filesystem::create_directories(folder);
    (void)tensors_.write(folder + "/adapter_model.safetensors");
    std::ofstream(folder + "/adapter_config.json") << R"({"peft_type": "GLORA", "r": 3})";
  }

 private:
  using Shape = std::vector<std::int64_t>;
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }
  const Values& put(const std::string& name, const Shape& shape, std::uint32_t seed) {
    std::int64_t size = 1;
    for (const std::int64_t extent : shape) size *= extent;
    kept_.push_back(drawn(size, seed));
    tensors_.add(name, shape, kept_.back());
    return kept_.back();
  }
  static Values product(const Values& left, const Values& right, std::int64_t rows, std::int64_t cols) {
    Values all(index(rows * cols));
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) {
        double sum = 0;
        for (std::int64_t r = 0; r < 3; ++r)
          sum +=
              static_cast<double>(left[index(i * 3 + r)]) * static_cast<double>(right[index(r * cols + j)]);
        all[index(i * cols + j)] = static_cast<float>(sum);
      }
    return all;
  }

  std::int64_t rows_;
  FloatTensors tensors_{};
  std::deque<Values> kept_{};
  Values a_{}, b_{}, c_{}, d_{}, e_{};
};

constexpr auto all_forms = {GloraFile::Form::products, GloraFile::Form::vectors, GloraFile::Form::numbers};

/// Files of both nets with the same rows: `attn.qkv`, and `attn.q`, `attn.k`, `attn.v`.
struct Bases {
  TemporaryFolder folder{};
  DType dtype;
  Exact exact{};

  explicit Bases(DType type = DType::f32) : dtype(type) {
    const auto rounded = [&](std::int64_t size, std::uint32_t seed, std::vector<double>& into) {
      Values values = drawn(size, seed);
      std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(dtype_bytes(dtype)));
      encode(dtype, values.data(), size, bytes.data());
      decode(dtype, bytes.data(), size, values.data());
      into.assign(values.begin(), values.end());
      return bytes;
    };
    const std::vector<std::byte> w = rounded(out * D, 91, exact.w);
    const std::vector<std::byte> b = rounded(out, 92, exact.b);
    const auto write = [&](const std::string& file, const auto& modules) {
      std::vector<NamedTensor> named;
      std::vector<std::vector<std::int64_t>> shapes;
      shapes.reserve(6);
      std::deque<std::string> names;
      for (const auto& [module, first, rows] : modules) {
        const std::int64_t element = dtype_bytes(dtype);
        shapes.push_back({rows, D});
        named.push_back({names.emplace_back(concat("attn.", module, ".weight")),
                         TensorView(w.data() + first * D * element, dtype, shapes.back())});
        shapes.push_back({rows});
        named.push_back({names.emplace_back(concat("attn.", module, ".bias")),
                         TensorView(b.data() + first * element, dtype, shapes.back())});
      }
      write_safetensors(folder.file(file), named);
    };
    using Row = std::tuple<std::string, std::int64_t, std::int64_t>;
    write("fused.safetensors", std::vector<Row>{{"qkv", 0, out}});
    write("split.safetensors", std::vector<Row>{{"q", 0, 6}, {"k", 6, 2}, {"v", 8, 2}});
  }
  template <class Net>
  [[nodiscard]] Model<Net> open(bool own_weights = false) const {
    const bool is_fused = std::is_same_v<Net, Layer>;
    return tenon::open<Net>(folder.file(is_fused ? "fused.safetensors" : "split.safetensors"),
                            {.own_weights = own_weights});
  }
  template <class Net>
  [[nodiscard]] Adapter<Net> load(const GloraFile& file) const {
    file.write(folder.file("adapter"));
    return load_adapter<Net>(folder.file("adapter"));
  }
};

/// x W^T + b, of rows [first, first + rows).
Values output_of(const Exact& layer, const Tensor& x, std::int64_t first = 0, std::int64_t rows = out) {
  Values y;
  for (std::size_t n = 0; n < x.values().size() / D; ++n)
    for (std::int64_t i = first; i < first + rows; ++i) {
      double sum = layer.b[static_cast<std::size_t>(i)];
      for (std::size_t j = 0; j < D; ++j)
        sum += static_cast<double>(x.values()[n * D + j]) * layer.w[static_cast<std::size_t>(i) * D + j];
      y.push_back(static_cast<float>(sum));
    }
  return y;
}

const Tensor x = ramp({7, D});

} // namespace

TEST_CASE("GLoRA is linear in its strength and several add up, beside the weights, merged and in place") {
  const Bases bases;
  for (const auto form : all_forms) {
    const GloraFile one("attn.qkv", out, form, 1);
    const GloraFile two("attn.qkv", out, GloraFile::Form::products, 50);
    const auto first = bases.load<Layer>(one);
    const auto second = bases.load<Layer>(two);
    for (const double strength : {1.0, 0.5, -2.0}) {
      Exact alone = bases.exact;
      one.change(bases.exact, strength, alone);
      Exact both = alone;
      two.change(bases.exact, strength * 0.25, both); // of the pristine weight and bias too
      const auto check = [&]<class Mode>(Mode, const Model<Layer>& model) {
        Session<Layer> session(model);
        const Tensor base = session(x);
        {
          const Guard guard = session.attach<Mode>(first, strength);
          CHECK(relative_error(session(x).values(), output_of(alone, x)) < 2e-6);
          session.use_threads(3);
          CHECK(relative_error(session(x).values(), output_of(alone, x)) < 2e-6);
          session.use_threads(1);
        }
        CHECK(session(x) == base);
        {
          const Guard guard = session.attach<Mode>(first.scaled(strength), second.scaled(0.25 * strength));
          CHECK(relative_error(session(x).values(), output_of(both, x)) < 2e-6);
        }
        std::optional<Guard> below(std::in_place, session.plan<Mode>(first, strength));
        const Guard above = session.attach<Mode>(second, 0.25 * strength);
        CHECK(relative_error(session(x).values(), output_of(both, x)) < 2e-6);
        below.reset(); // in any order
        Exact rest = bases.exact;
        two.change(bases.exact, strength * 0.25, rest);
        CHECK(relative_error(session(x).values(), output_of(rest, x)) < 2e-6);
      };
      const auto mapped = bases.open<Layer>();
      check(side_path{}, mapped);
      check(merged{}, mapped);
      check(in_place{}, bases.open<Layer>(true));
    }
  }
}

TEST_CASE("GLoRA merged into 16-bit weights is rounded once, and its change of the bias not at all") {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const Bases bases(dtype);
    for (const auto form : all_forms) {
      const GloraFile file("attn.qkv", out, form, 7);
      const auto adapter = bases.load<Layer>(file);
      Exact expected = bases.exact;
      file.change(bases.exact, 1, expected);
      const auto model = bases.open<Layer>();
      Session session(model);
      {
        const Guard guard = session.attach(adapter);
        CHECK(relative_error(session(x).values(), output_of(expected, x)) < 2e-6);
      }
      const Guard guard = session.attach<merged>(adapter);
      Values merged_values(expected.w.size());
      decode(dtype, session.slot_weight(0).data, std::ssize(merged_values), merged_values.data());
      const double unit = dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
      for (std::size_t i = 0; i < merged_values.size(); ++i) {
        CHECK(std::abs(static_cast<double>(merged_values[i]) - expected.w[i]) <=
              unit * std::abs(expected.w[i]) + 1e-6);
        expected.w[i] = static_cast<double>(merged_values[i]);
      }
      CHECK(relative_error(session(x).values(), output_of(expected, x)) < 2e-6);
    }
  }
}

TEST_CASE("GLoRA of a fused projection goes to separate ones, and of one of several into the fused weight") {
  const Bases bases;
  for (const auto form : all_forms) {
    const GloraFile whole("attn.qkv", out, form, 3);
    Exact expected = bases.exact;
    whole.change(bases.exact, 0.5, expected);
    const auto split = bases.open<SplitLayer>();
    const auto apart = bases.load<SplitLayer>(whole);
    const auto check_split = [&]<class Mode>(Mode) {
      Session<SplitLayer> session(split);
      const Guard guard = session.attach<Mode>(apart, 0.5);
      const auto [a, b, c] = session(x);
      CHECK(relative_error(a.values(), output_of(expected, x, 0, 6)) < 2e-6);
      CHECK(relative_error(b.values(), output_of(expected, x, 6, 2)) < 2e-6);
      CHECK(relative_error(c.values(), output_of(expected, x, 8, 2)) < 2e-6);
    };
    check_split(side_path{});
    check_split(merged{});

    const GloraFile part("attn.k", 2, form, 5);
    Exact in_part = bases.exact;
    part.change(bases.exact, 0.5, in_part, 6);
    const auto fused = bases.open<Layer>();
    const auto of_part = bases.load<Layer>(part);
    const auto check_fused = [&]<class Mode>(Mode) {
      Session<Layer> session(fused);
      const Guard guard = session.attach<Mode>(of_part, 0.5);
      CHECK(relative_error(session(x).values(), output_of(in_part, x)) < 2e-6);
    };
    check_fused(side_path{});
    check_fused(merged{});
  }
}

TEST_CASE("What is read for W C is in the plan, and the floats it makes are in the ledger") {
  const Bases bases;
  const auto adapter = bases.load<Layer>(GloraFile("attn.qkv", out, GloraFile::Form::products, 1));
  const auto model = bases.open<Layer>();
  Session session(model);
  const AttachPlan plan = session.plan(adapter);
  CHECK(plan.gain_floats == out);
  CHECK(plan.cost.bytes_measured == out * D * 4);
  std::int64_t done = 0;
  const Guard guard = session.attach(adapter, on_progress([&](const AttachProgress& now) {
                                       done = now.bytes_done;
                                       return true;
                                     }));
  CHECK(done == out * D * 4);
}
