// SPDX-License-Identifier: Apache-2.0
// A cache of keys and values in a device's memory: what it promises anywhere, and that decoders read from it there what
// they read on the host.
#include <doctest/doctest.h>

#include <support/device_pair.hpp>
#include <support/kv_cache_checks.hpp>
#include <support/kv_cache_refusals.hpp>

#include <tenon/models/clip_text.hpp>
#include <tenon/models/llama.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

using namespace tenon;
using namespace tenon::test;

namespace {

template <class Net>
struct OnTestDevice : RandomPair<Net> {
  [[nodiscard]] const Model<Net, on_device>& opened() const { return this->device_model; }
};

/// For the biases of an attention to take more scratch than a product's workspace.
constexpr std::int64_t many_tokens = 5'000'000;

constexpr models::LlamaSize small_llama{11, 32, 3, 72, {4, 8, 2}};
constexpr models::LlamaSize small_qwen{11, 48, 2, 64, {4, 12, 2}, {1000000}, {1e-6f}, true, true};
constexpr models::ClipTextSize small_clip{11, 40, 32, 3, 4, 64};

/// Columns [first, first + count) of a text of two sequences.
struct TwoTexts {
  std::vector<std::int32_t> ids{};

  [[nodiscard]] TensorView columns(std::size_t first, std::size_t count) {
    ids.clear();
    for (std::size_t sequence = 0; sequence < 2; ++sequence)
      for (std::size_t t = first; t < first + count; ++t)
        ids.push_back(sequence == 0 ? text[t] : (text[t] * 7 + 3) % 11);
    return view(ids, {2, static_cast<std::int64_t>(count)});
  }
};

/// A host's and a device's session read two texts, each with a cache: a prompt, then a token at a time, and after a draft
/// that is dropped five at once. The largest difference of any output.
template <class Net>
double decoding_error(DevicePair<Net>& pair) {
  KvCache here(pair.host, 20, 2);
  KvCache there(pair.session, 20, 2);
  CHECK(there.bytes() == here.bytes());
  TwoTexts texts;
  double worst = 0;
  const auto read = [&](std::size_t first, std::size_t count) {
    const TensorView columns = texts.columns(first, count);
    static_cast<void>(pair.host.run(here, columns));
    static_cast<void>(pair.session.run(there, columns));
    CHECK(there.tokens() == here.tokens());
    for (std::size_t i = 0; i < Session<Net>::output_count; ++i)
      worst = std::max(worst, difference(values_of(pair.session.output(i)), values_of(pair.host.output(i))));
  };
  read(0, 7);
  for (std::size_t t = 7; t < 15; ++t) read(t, 1);
  here.keep(11);
  there.keep(11);
  read(11, 5);
  read(16, 1);
  return worst;
}

/// Beside each other, and all tokens at once on the device.
template <class Net>
void check_decoding(DType weights, DType factors) {
  RandomPair<Net> pair(weights, factors);
  CAPTURE(dtype_name(weights));
  CAPTURE(dtype_name(factors));
  CHECK(decoding_error(pair) <= parity(weights));
  in_each_mode([&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    const typename RandomPair<Net>::template Both<Mode> both(pair, pair.tone, pair.other.scaled(-0.5), 0.8);
    CHECK(decoding_error(pair) <= parity(weights, factors, Mode::mode));
  });
  CHECK(decoding_error(pair) <= parity(weights));
  CHECK(pair.has_pristine_weights());
}

} // namespace

TEST_CASE(
    "Decoders read from a device's cache what they read from the host's, attached in every mode and after") {
  check_decoding<models::Llama<small_llama>>(DType::f32, DType::f32);
  check_decoding<models::LlamaNext<small_llama>>(DType::f32, DType::bf16);
  check_decoding<models::Llama<small_llama>>(DType::bf16, DType::bf16);
  check_decoding<models::Llama<small_qwen>>(DType::f32, DType::f32);
  check_decoding<models::ClipTextModel<small_clip>>(DType::f32, DType::f32);
  check_decoding<Decoder>(DType::f16, DType::f32);
  check_decoding<DecoderBody<Biased, 2>>(DType::f32, DType::f32);
}

TEST_CASE("Any parts of a text give on a device what the text gives at once") {
  check_any_parts<OnTestDevice, Decoder>();
  check_any_parts<OnTestDevice, DecoderBody<Biased, 2>>();
  check_any_parts<OnTestDevice, models::Llama<small_llama>>();
  check_adapters_and_parts<OnTestDevice>();
}

TEST_CASE("On a device each sequence of a batch has a cache of its own, and so has each cache") {
  check_sequences_of_a_batch<OnTestDevice>();
  check_two_caches<OnTestDevice>();
}

TEST_CASE("What is kept of a device's cache is the beginning of its text") {
  check_kept_tokens<OnTestDevice>();
}

TEST_CASE("A device's cache that cannot be, or does not fit the call, is refused in the host's sentences") {
  check_refusals<OnTestDevice>();
  check_mask_is_refused<OnTestDevice>();
}

TEST_CASE("A device's cache stands in the device's ledger, and over its budget leaves everything as before") {
  check_bytes_in_the_ledger<OnTestDevice>();
  check_budget<OnTestDevice>(many_tokens);
}

TEST_CASE("A pass that fails on a device leaves the tokens of its cache as before") {
  check_failure_at_the_first_step<OnTestDevice>();
  check_failure_at_the_last_step<OnTestDevice>();
  check_failure_beyond_the_positions<OnTestDevice>();
}

TEST_CASE("A call with a device's cache allocates nothing and moves ids and outputs alone") {
  check_nothing_is_allocated<OnTestDevice>(!rounds_to_weights()); // a GPU's driver may take what it likes
  check_copies_of_a_token<OnTestDevice>();
}

TEST_CASE("Where a device's passes are recorded, those with a cache are computed step by step") {
  check_recorded_passes<OnTestDevice>();
}
