// SPDX-License-Identifier: Apache-2.0
// A base in memory of its own, the host's or a device's: the weights are copied out of the checkpoint, so that an
// adapter may be merged over them in place, and copied again to restore them. Cost: the weights' bytes, one read of
// the file.
#pragma once

#include <tenon/memory/buffer.hpp>
#include <tenon/session/device.hpp>
#include <tenon/weights/checkpoint.hpp>

#include <cstring>
#include <span>
#include <vector>

namespace tenon {

/// Copies the weights that `views` see into one block of `ledger`'s source, over `lane` if that is a device's, and lets
/// the views see the copies. The file's pages are let go again. Throws as Buffer and DeviceLane do, with the views
/// unchanged.
[[nodiscard]] inline Buffer own_weights(std::span<TensorView> views, Ledger& ledger, DeviceLane* lane) {
  const auto stride = [lane](const TensorView& view) {
    constexpr auto alignment = static_cast<std::int64_t>(memory_alignment);
    if (lane != nullptr) return on_device_boundary(view.bytes());
    return (view.bytes() + alignment - 1) / alignment * alignment;
  };
  std::int64_t bytes = 0;
  for (const TensorView& view : views) bytes += stride(view);
  Buffer own(ledger, Category::base_owned, bytes, "open: weights in memory of their own");
  std::byte* next = own.data();
  for (const TensorView& view : views) {
    const auto size = static_cast<std::size_t>(view.bytes());
    if (lane == nullptr)
      std::memcpy(next, view.data, size);
    else
      lane->upload(next, {view.data, size});
    drop_pages({.data = view.data, .bytes = size});
    next += stride(view);
  }
  if (lane != nullptr) lane->wait();
  next = own.data();
  for (TensorView& view : views) { // nothing can fail any more
    const std::int64_t taken = stride(view);
    view.data = next;
    next += taken;
  }
  return own;
}

/// Throws `load_error{bad_file}` unless the bytes of `copies` are those of `weights`, by whose names the
/// sentence calls them.
inline void check_copies(std::span<const TensorView> weights, std::span<const TensorView> copies,
                         const std::string& path) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto size = static_cast<std::size_t>(weights[i].bytes());
    const bool is_same =
        weights[i].dtype == copies[i].dtype && std::memcmp(weights[i].data, copies[i].data, size) == 0;
    drop_pages({.data = copies[i].data, .bytes = size});
    if (!is_same)
      throw load_error(ErrorCode::bad_file,
                       concat(path, ": expected the opened file's weights, to restore them from, but weight ",
                              i, " of the net differs"),
                       {.file = path});
  }
}

} // namespace tenon
