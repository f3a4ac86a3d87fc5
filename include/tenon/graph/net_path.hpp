// SPDX-License-Identifier: Apache-2.0
// Where in a net its lowering stands: the names of the parts entered, joined by dots; `*` stands for a loop's index.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace tenon {

class NetPath {
 public:
  /// Enters a named part; give what it returns to `leave`. Without `writes` only the length is kept.
  [[nodiscard]] constexpr std::size_t enter(std::string_view name, bool writes) {
    const std::size_t before = size_;
    if (size_ + name.size() + 1 > text_.size())
      throw "tenon: a path of this net is longer than 512 characters";
    if (size_ > 0 && !name.empty()) text_[size_++] = '.';
    if (writes)
      for (std::size_t i = 0; i < name.size(); ++i) text_[size_ + i] = name[i];
    size_ += name.size();
    return before;
  }
  constexpr void leave(std::size_t mark) { size_ = mark; }

  [[nodiscard]] constexpr std::string_view text() const { return {text_.data(), size_}; }

 private:
  std::array<char, 512> text_{};
  std::size_t size_ = 0;
};

} // namespace tenon
