// SPDX-License-Identifier: Apache-2.0
// Plain LoRA in memory, as what adapters are made into: one module's pair of factors as floats, and the set of
// all of a file's modules. Values are the caller's own and stand in no ledger. (What attaches to a session
// stays in its file's mapping; see adapter_data.hpp.)
#pragma once

#include <tenon/adapters/double_matrix.hpp>
#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/kernels/matrix.hpp>
#include <tenon/weights/tensor.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tenon {

/// delta [out, in] = scale * B A (Hu et al., arXiv 2106.09685). A convolution's weight [out, in, kh, kw] is
/// [out, in * kh * kw] here, an embedding's is [rows of the table, width].
struct LoraPair {
  std::int64_t out = 0;
  std::int64_t in = 0;
  std::int64_t rank = 0;
  double scale = 1;          ///< alpha / rank, or alpha / sqrt(rank)
  std::vector<float> a{};    ///< [rank, in]
  std::vector<float> b{};    ///< [out, rank]
  std::vector<float> bias{}; ///< the module's bias changes by this, scale and all, [out]; empty: it does not

  [[nodiscard]] kernels::ConstMatrix a_view() const noexcept { return {a.data(), rank, in, in}; }
  [[nodiscard]] kernels::ConstMatrix b_view() const noexcept { return {b.data(), out, rank, rank}; }
};

/// Throws `shape_error` unless the vectors have the sizes that out, in and rank say. `what` names the pair.
inline void check_pair(const LoraPair& pair, const std::string& what) {
  const auto check = [&](const char* part, std::size_t got, std::int64_t rows, std::int64_t cols) {
    if (static_cast<std::int64_t>(got) != rows * cols)
      throw shape_error(ErrorCode::wrong_shape,
                        concat(what, ": expected ", rows, " x ", cols, " values of ", part, ", got ", got));
  };
  check("A [rank, in]", pair.a.size(), pair.rank, pair.in);
  check("B [out, rank]", pair.b.size(), pair.out, pair.rank);
  if (!pair.bias.empty()) check("bias [out]", pair.bias.size(), pair.out, 1);
}

/// What kind of module a pair belongs to: files lay out their factors differently.
enum class LoraTarget : std::uint8_t { linear, convolution, embedding };

struct LoraModule {
  std::string path{}; ///< of the module in its model: "encoder.layer.0.attention.self.query"
  LoraTarget target = LoraTarget::linear;
  std::vector<std::int64_t> kernel{}; ///< a convolution's, [kh, kw]; or one or three extents
  LoraPair pair{};
};

/// A change of a whole small tensor: a norm's weight, a bias.
struct DiffTensor {
  std::string path{}; ///< of the tensor: "encoder.norm.weight", "encoder.norm.bias"
  Tensor values{};
};

/// An adapter made of plain LoRA. One component of a pipeline: "unet", "transformer", "text_encoder"; empty for
/// a model that is one.
struct LoraSet {
  std::string component{};
  std::vector<LoraModule> modules{};
  std::vector<DiffTensor> diffs{};
};

} // namespace tenon
