// SPDX-License-Identifier: Apache-2.0
// expect: tenon: a convolution's kernel is larger than its padded input
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
constexpr ConvolutionShape convolution{.kernel = {1, 3, 3}};
#else
constexpr ConvolutionShape convolution{.kernel = {1, 5, 3}};
#endif
constexpr Shape given = convolution.gives(Shape::of({batch_dim, fixed(4), fixed(4), fixed(1)}));
