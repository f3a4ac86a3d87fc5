// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/kernels/bias_term.hpp>

#include <support/naive.hpp>
#include <support/random_cases.hpp>

#include <cstdint>
#include <vector>

using namespace tenon;
using namespace tenon::kernels;
using namespace tenon::test;

TEST_CASE("What adapters do to a bias follows from the module's own, for every action, any dtype and any "
          "part of it") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const std::int64_t size : {1, 63, 64, 65, 200})
      for (const std::int64_t first : {0, 3})
        for (const BiasAction action :
             {BiasAction::add, BiasAction::replace, BiasAction::scale_by, BiasAction::grow_by})
          for (const bool has_bias : {true, false}) {
            CAPTURE(size);
            CAPTURE(first);
            CAPTURE(static_cast<int>(action));
            const StoredMatrix values(1, size, dtype, 1);
            const StoredMatrix own(1, size + 5, dtype, 2);
            const Twin v = exact(values.view);
            const Twin b = exact(own.view);
            std::vector<float> row(static_cast<std::size_t>(size + 5), 0.25f);
            const WeightVector bias =
                has_bias ? WeightVector{own.view.data, dtype, size + 5} : WeightVector{};
            add_bias_term(
                {.values = {values.view.data, dtype, size}, .scale = -0.5f, .action = action, .first = first},
                bias, row);
            for (std::int64_t i = 0; i < size + 5; ++i) {
              const std::int64_t k = i - first;
              double expected = 0.25;
              if (k >= 0 && k < size) {
                const double was = has_bias ? b(0, i) : 0.0;
                const double is = action == BiasAction::add        ? was + v(0, k)
                                  : action == BiasAction::replace  ? v(0, k)
                                  : action == BiasAction::scale_by ? v(0, k) * was
                                                                   : (1 + v(0, k)) * was;
                expected -= 0.5 * (is - was);
              }
              CHECK(static_cast<double>(row[static_cast<std::size_t>(i)]) ==
                    doctest::Approx(expected).epsilon(1e-6));
            }
          }
}
