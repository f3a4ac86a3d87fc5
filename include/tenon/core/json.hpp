// SPDX-License-Identifier: Apache-2.0
// A strict reader of JSON (RFC 8259), for safetensors headers and adapter configurations: a text becomes a
// tree of JsonValue, with every object's members in the order of the text. What other readers let pass, and
// two of them read differently, is refused: a key twice, bytes after the end, broken UTF-8, more than
// `json_max_depth` levels.
// Cost: one pass, about 90 bytes for each value. Threads: no shared state.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/error.hpp>
#include <tenon/core/json_value.hpp>
#include <tenon/core/sort_by.hpp>
#include <tenon/core/text.hpp>
#include <tenon/core/utf8.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

inline constexpr int json_max_depth = 64;

/// Where a JSON text comes from, for messages: its file, and the byte of that file at which it begins.
struct JsonSource {
  std::string_view file = "JSON";
  std::size_t first_byte = 0;
};

/// The value that `text` is. Throws `load_error{bad_file}`:
/// "<file>: byte 12: expected ':' after a key, got '}'".
[[nodiscard]] TENON_INLINE JsonValue parse_json(std::string_view text, JsonSource source = {});

#if TENON_HAS_BODIES
/// The reader behind `parse_json`: one function for each rule of the grammar, one position in the text.
class JsonParser {
 public:
  JsonParser(std::string_view text, JsonSource source) noexcept : text_(text), source_(source) {}

  [[nodiscard]] JsonValue document() {
    JsonValue root;
    read_value(root, 0);
    skip_space();
    if (at_ < text_.size()) fail("the end of the text");
    return root;
  }

 private:
  [[noreturn]] void fail_at(std::size_t byte, std::string_view expected, std::string_view got) const {
    throw load_error(
        ErrorCode::bad_file,
        concat(source_.file, ": byte ", source_.first_byte + byte, ": expected ", expected, ", got ", got),
        {.file = std::string(source_.file)});
  }
  [[noreturn]] void fail(std::string_view expected) const {
    if (at_ >= text_.size()) fail_at(at_, expected, "the end of the text");
    fail_at(at_, expected, byte_text(text_[at_]));
  }

  [[nodiscard]] bool next_is(char c) const noexcept { return at_ < text_.size() && text_[at_] == c; }
  [[nodiscard]] bool next_is_digit() const noexcept {
    return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9';
  }
  bool skip(char c) noexcept {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }
  void skip_space() noexcept {
    while (next_is(' ') || next_is('\n') || next_is('\r') || next_is('\t')) ++at_;
  }

  void read_value(JsonValue& out, int depth) {
    skip_space();
    if (next_is('{')) return read_object(out, depth + 1);
    if (next_is('[')) return read_array(out, depth + 1);
    if (next_is('"')) {
      out.kind = JsonKind::string;
      return read_string(out.text);
    }
    if (next_is('-') || next_is_digit()) return read_number(out);
    if (read_word("null")) return;
    out.kind = JsonKind::boolean;
    out.truth = read_word("true");
    if (!out.truth && !read_word("false")) fail("a value");
  }

  bool read_word(std::string_view word) noexcept {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void open(int depth) {
    if (depth > json_max_depth) fail(concat("at most ", json_max_depth, " levels"));
    ++at_;
    skip_space();
  }

  void read_array(JsonValue& out, int depth) {
    out.kind = JsonKind::array;
    open(depth);
    if (skip(']')) return;
    do {
      read_value(out.items.emplace_back(), depth);
      skip_space();
    } while (skip(','));
    if (!skip(']')) fail("',' or ']'");
  }

  void read_object(JsonValue& out, int depth) {
    out.kind = JsonKind::object;
    open(depth);
    if (skip('}')) return;
    std::vector<std::size_t> key_bytes;
    do {
      skip_space();
      if (!next_is('"')) fail("a key in quotes");
      key_bytes.push_back(at_);
      out.members.emplace_back();
      read_string(out.members.back().key);
      skip_space();
      if (!skip(':')) fail("':' after a key");
      read_value(out.members.back().value, depth);
      skip_space();
    } while (skip(','));
    if (!skip('}')) fail("',' or '}'");
    refuse_repeated_keys(out.members, key_bytes);
  }

  // Once for each object, when its members no longer move. A header may have 10^6 of them: not each with
  // each.
  void refuse_repeated_keys(const std::vector<JsonMember>& members,
                            const std::vector<std::size_t>& key_bytes) const {
    const auto order =
        sorted_positions(members.size(), &members, [](const void* of, std::size_t a, std::size_t b) {
          const auto& list = *static_cast<const std::vector<JsonMember>*>(of);
          return list[a].key < list[b].key;
        });
    std::size_t first = members.size(); // of the keys that stood before
    for (std::size_t i = 1; i < order.size(); ++i)
      if (members[order[i]].key == members[order[i - 1]].key) first = std::min(first, order[i]);
    if (first < members.size())
      fail_at(key_bytes[first], "each key once", concat(json_quote(members[first].key), " again"));
  }

  void read_number(JsonValue& out) {
    out.kind = JsonKind::number;
    const std::size_t first = at_;
    skip('-');
    if (skip('0')) {
      if (next_is_digit()) fail("no digit after a leading 0");
    } else {
      read_digits();
    }
    if (skip('.')) read_digits();
    if (skip('e') || skip('E')) {
      if (!skip('+')) skip('-');
      read_digits();
    }
    out.text = text_.substr(first, at_ - first);
  }
  void read_digits() {
    if (!next_is_digit()) fail("a digit");
    while (next_is_digit()) ++at_;
  }

  void read_string(std::string& out) {
    ++at_;
    read_plain(out);
    while (!skip('"')) {
      if (at_ >= text_.size()) fail("'\"' at the end of a string");
      if (skip('\\')) {
        read_escape(out);
        continue;
      }
      if (static_cast<unsigned char>(text_[at_]) < 0x20) fail("a control character to be escaped");
      const std::size_t length = utf8_length(text_.substr(at_, 4));
      if (length == 0) fail("UTF-8");
      out.append(text_, at_, length);
      at_ += length;
    }
  }
  // Most strings are names in ASCII: one append.
  void read_plain(std::string& out) {
    const std::size_t first = at_;
    while (at_ < text_.size() && text_[at_] >= ' ' && text_[at_] <= '~' && !next_is('"') && !next_is('\\'))
      ++at_;
    out.assign(text_, first, at_ - first);
  }

  void read_escape(std::string& out) {
    constexpr std::string_view escape = "\"\\/bfnrt";
    constexpr std::string_view plain = "\"\\/\b\f\n\r\t";
    if (skip('u')) return append_utf8(out, read_code_point());
    const std::size_t i = at_ < text_.size() ? escape.find(text_[at_]) : std::string_view::npos;
    if (i == std::string_view::npos) fail("an escape of JSON after '\\'");
    out += plain[i];
    ++at_;
  }

  // After "\u": a character of four digits, or the two halves of one beyond U+FFFF.
  [[nodiscard]] std::uint32_t read_code_point() {
    const std::size_t first = at_ - 2;
    const std::uint32_t high = read_hex();
    if (high < 0xD800 || high > 0xDFFF) return high;
    std::uint32_t low = 0;
    if (high < 0xDC00 && read_word("\\u")) low = read_hex();
    if (low >= 0xDC00 && low <= 0xDFFF) return 0x10000 + ((high - 0xD800) << 10U) + (low - 0xDC00);
    fail_at(first, "surrogates in pairs", concat("a lone ", text_.substr(first, 6)));
  }
  [[nodiscard]] std::uint32_t read_hex() {
    std::uint32_t value = 0;
    for (int digit = 0; digit < 4; ++digit, ++at_) {
      constexpr std::string_view digits = "0123456789abcdefABCDEF";
      const std::size_t i = at_ < text_.size() ? digits.find(text_[at_]) : std::string_view::npos;
      if (i == std::string_view::npos) fail("four hexadecimal digits after '\\u'");
      value = value * 16 + static_cast<std::uint32_t>(i < 16 ? i : i - 6);
    }
    return value;
  }

  std::string_view text_;
  JsonSource source_;
  std::size_t at_ = 0;
};

TENON_INLINE JsonValue parse_json(std::string_view text, JsonSource source) {
  return JsonParser(text, source).document();
}
#endif

} // namespace tenon
