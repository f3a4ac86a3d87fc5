// SPDX-License-Identifier: Apache-2.0
// How an argument of a forward pass is read: as the TensorView that it is or converts to. Other libraries' containers have
// readers of their own (interop/eigen.hpp, interop/xtensor.hpp), and so may a user's type.
#pragma once

#include <tenon/weights/tensor_view.hpp>

namespace tenon {

/// `read` gives what converts to a TensorView that is good as long as it and the argument are.
template <class T>
struct InputReader {
  [[nodiscard]] static TensorView read(const T& input) { return TensorView(input); }
};

} // namespace tenon
