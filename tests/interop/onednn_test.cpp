// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <tenon/interop/onednn.hpp>

#include <doctest/doctest.h>

using namespace tenon;
using namespace tenon::test;

namespace {

using Net = Sequential<Linear<"up", 70, 130>, Gelu, Linear<"down", 130, 50>>;

} // namespace

TEST_CASE("Products by oneDNN are Tenon's within rounding, with an adapter beside them or merged") {
  const Fixture<Net> f;
  Session own(f.model);
  Session session(f.model);
  session.use_products(&onednn_products);
  for (const std::int64_t rows : {1, 9, 200})
    for (const int threads : {1, 2}) {
      CAPTURE(rows);
      CAPTURE(threads);
      session.use_threads(threads);
      const Tensor x = ramp({rows, 70});
      CHECK(relative_error(session(x).values(), own(x).values()) <
            1e-6); // sums of 130 floats, in another order
      const Guard side = session.attach(f.tone);
      const Guard own_side = own.attach(f.tone);
      CHECK(relative_error(session(x).values(), own(x).values()) < 1e-6);
      const Guard overlay = session.attach<merged>(f.other);
      const Guard own_overlay = own.attach<merged>(f.other);
      CHECK(relative_error(session(x).values(), own(x).values()) < 1e-6);
    }
}

TEST_CASE("oneDNN is asked for float weights only, and the others have Tenon's bits") {
  const Fixture<Net> f(DType::bf16);
  Session own(f.model);
  Session session(f.model);
  session.use_products(&onednn_products);
  const Tensor x = ramp({9, 70});
  CHECK(session(x) == own(x));
  std::vector<float> y(9 * 130, 1.0f);
  CHECK_FALSE(onednn_add_product({x.values().data(), 9, 70, 70}, weight_matrix(f.model.weights()[0]),
                                 {y.data(), 9, 130, 130}, {}));
  CHECK(y == std::vector<float>(9 * 130, 1.0f));
}

TEST_CASE("A backend that takes nothing changes nothing, and one that takes a product is used") {
  const Fixture<Net> f;
  Session own(f.model);
  Session session(f.model);
  const Tensor x = ramp({3, 70});
  static int asked = 0;
  const kernels::ProductBackend refuses{"none",
                                        [](kernels::ConstMatrix, kernels::WeightMatrix, kernels::Matrix,
                                           kernels::Workers) noexcept { return asked++ < 0; }};
  session.use_products(&refuses);
  CHECK(session(x) == own(x));
  CHECK(asked == 2);
  const kernels::ProductBackend zero{"zero", [](kernels::ConstMatrix, kernels::WeightMatrix, kernels::Matrix,
                                                kernels::Workers) noexcept { return true; }};
  session.use_products(&zero);
  CHECK_FALSE(session(x) == own(x));
  session.use_products(nullptr);
  CHECK(session(x) == own(x));
}
