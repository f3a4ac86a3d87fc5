// SPDX-License-Identifier: Apache-2.0
// all-MiniLM-L6-v2 with its real weights and adapters, on a device and on the host.
#include <doctest/doctest.h>

#include <support/device_pair.hpp>
#include <support/sentence_model.hpp>

#include <tenon/models/bert.hpp>
#include <tenon/weights/safetensors.hpp>

#include <string>

using namespace tenon;
using namespace tenon::test;

namespace {

const std::string adapters = TENON_EXAMPLES_DATA "/sentences/data/";

} // namespace

TEST_CASE(
    "The sentence encoder on a device gives the host's embeddings, with adapters in every mode and without") {
  const auto folder = fetched_model();
  if (!folder) return;
  DevicePair<models::MiniLM> pair(*folder + "/model.safetensors");
  const SafetensorsFile goldens(TENON_TEST_DATA "/goldens/minilm/minilm_goldens.safetensors", pair.ledger,
                                Category::base_owned);
  const TensorView ids = goldens.at("b.ids");
  const TensorView mask = goldens.at("b.mask");
  const auto tone_qv = load_adapter<models::MiniLM>(adapters + "tone_qv", {.ledger = &pair.ledger});
  const auto tone_all = load_adapter<models::MiniLM>(adapters + "tone_all", {.ledger = &pair.ledger});
  CHECK(pair.error(ids, mask) <= device_tolerance);
  const Tensor base = pair.session(ids, mask)[0];
  in_each_mode([&]<class Mode>(Mode) {
    CAPTURE(std::string(attach_mode_name(Mode::mode)));
    {
      const DevicePair<models::MiniLM>::Both<Mode> one(pair, tone_all, 0.5);
      CHECK(pair.error(ids, mask) <= parity(DType::f32, DType::bf16, Mode::mode));
    }
    const DevicePair<models::MiniLM>::Both<Mode> both(pair, tone_qv.scaled(0.7), tone_all.scaled(0.4));
    CHECK(pair.error(ids, mask) <= parity(DType::f32, DType::bf16, Mode::mode));
    CHECK_FALSE(pair.session(ids, mask)[0] == base);
  });
  CHECK(pair.session(ids, mask)[0] == base);
  CHECK(pair.has_pristine_weights());
}
