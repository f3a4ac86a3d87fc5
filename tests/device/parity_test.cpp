// SPDX-License-Identifier: Apache-2.0
// Sessions on a device against sessions on the host: the same files, adapters and inputs.
#include <doctest/doctest.h>

#include <digits/digits_net.hpp>
#include <support/device_pair.hpp>
#include <support/naive.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string data = TENON_EXAMPLES_DATA "/digits/data/";

struct Digits : DevicePair<digits::Net> {
  Digits() : DevicePair<digits::Net>(data + "digits.safetensors") {}
  Adapter<digits::Net> rotated = load_adapter<digits::Net>(data + "rotated", {.ledger = &ledger});
  Adapter<digits::Net> inverted = load_adapter<digits::Net>(data + "inverted", {.ledger = &ledger});
  Adapter<digits::Net> noisy = load_adapter<digits::Net>(data + "noisy", {.ledger = &ledger});
  Tensor x = ramp({50, 64});

  void check() { CHECK(error(x) <= device_tolerance); }
};

} // namespace

TEST_CASE(
    "The digits model on a device computes what it computes on the host, attached in every mode and after") {
  Digits d;
  d.check();
  const Tensor base = d.session(d.x);
  in_each_mode([&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    for (const auto& adapter : {d.rotated, d.inverted, d.noisy})
      for (const double scale : {1.0, 0.5, -0.75}) {
        const Digits::Both<Mode> both(d, adapter, scale);
        d.check();
        CHECK_FALSE(d.session(d.x) == base);
      }
    const Digits::Both<Mode> all(d, d.rotated, d.inverted.scaled(-0.5), d.noisy.scaled(0.3));
    d.check();
  });
  CHECK(d.session(d.x) == base);
  CHECK(d.has_pristine_weights());
}

TEST_CASE("Guards on a device nest and end in any order, in place among overlays and side paths") {
  Digits d;
  const Tensor base = d.session(d.x);
  std::optional<Digits::Both<in_place>> first(std::in_place, d, d.rotated);
  std::optional<Digits::Both<merged>> second(std::in_place, d, d.inverted, 0.5);
  std::optional<Digits::Both<side_path>> third(std::in_place, d, d.noisy, -0.3);
  d.check();
  first.reset();
  CHECK(d.has_pristine_weights());
  d.check();
  first.emplace(d, d.rotated, 2.0);
  second.reset();
  d.check();
  third.reset();
  d.check();
  CHECK_FALSE(d.has_pristine_weights());
  first.reset();
  CHECK(d.session(d.x) == base);
  CHECK(d.has_pristine_weights());
}

TEST_CASE("A set that writes weights on a device is switched to another in the bytes it has") {
  Digits d;
  const Tensor base = d.session(d.x);
  const auto check = [&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    Digits::Both<Mode> both(d, d.rotated);
    d.check();
    const std::int64_t overlays = d.memory().current()[Category::overlay];
    both.switch_to(d, d.rotated.scaled(0.5), d.inverted.scaled(0.4));
    d.check();
    both.switch_to(d, d.inverted, -1.0);
    d.check();
    CHECK(d.memory().current()[Category::overlay] == overlays);
  };
  check(merged{});
  check(in_place{});
  CHECK(d.session(d.x) == base);
  CHECK(d.has_pristine_weights());
}

TEST_CASE("A set attached on a device in any mode is rescaled as on the host, and takes no memory for it") {
  Digits d;
  const Tensor base = d.session(d.x);
  in_each_mode([&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    Digits::Both<Mode> both(d, d.rotated, d.noisy.scaled(0.4));
    d.check();
    const BytesByCategory held = d.memory().current();
    for (const double factor : {-0.5, 3.0, 0.0}) {
      CAPTURE(factor);
      both.rescale(factor);
      d.check();
      CHECK(d.memory().current() == held);
    }
  });
  CHECK(d.session(d.x) == base);
  CHECK(d.has_pristine_weights());
}

TEST_CASE(
    "Small nets with weights and factors of any type compute on a device what they compute on the host") {
  const auto check = []<class Net>(const char* name, const auto&... inputs) {
    for (const DType dtype : weight_dtypes)
      for (const DType factors : weight_dtypes) {
        INFO(name, " ", dtype_name(dtype), " ", dtype_name(factors));
        RandomPair<Net> pair(dtype, factors);
        CHECK(pair.error(inputs...) <= parity(dtype));
        const auto base = pair.session(inputs...);
        in_each_mode([&]<class Mode>(Mode) {
          CAPTURE(std::string(attach_mode_name(Mode::mode)));
          const typename RandomPair<Net>::template Both<Mode> both(pair, pair.tone, pair.other.scaled(-0.5),
                                                                   0.8);
          CHECK(pair.error(inputs...) <= parity(dtype, factors, Mode::mode));
          CHECK_FALSE(pair.session(inputs...) == base);
        });
        CHECK(pair.session(inputs...) == base);
        CHECK(pair.has_pristine_weights());
      }
  };
  check.operator()<Mlp>("Mlp", ramp({5, 6}));
  const std::vector<std::int32_t> ids{1, 2, 3, 4, 10, 9, 8, 7, 0, 5};
  const Tensor mask({2, 5}, {1, 1, 1, 0, 0, 1, 1, 1, 1, 1});
  check.operator()<Encoder<8, 3>>("Encoder", TensorView(ids.data(), DType::i32, mask.shape()), mask);
}
