// SPDX-License-Identifier: Apache-2.0
// A JSON text as a tree of values, an object's members in the order of the text, and the accessors that take
// a value for what a format says it is, or throw a sentence. The reader is <tenon/core/json.hpp>.
// Cost: about 90 bytes for each value. Threads: no shared state.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

enum class JsonKind : std::uint8_t { null, boolean, number, string, array, object };

struct JsonMember;

/// One value and all below it. The accessors named after a kind throw `load_error{bad_file}` for any other
/// kind: "<what>: expected a string, got 3", where `what` says which value this is: a file and a key.
struct JsonValue {
  JsonKind kind = JsonKind::null;
  bool truth = false;              ///< of a boolean
  std::string text{};              ///< a string's characters in UTF-8; a number as it was written
  std::vector<JsonValue> items{};  ///< of an array
  std::vector<JsonMember> members; ///< of an object, in the order of the text

  [[nodiscard]] bool is_null() const noexcept { return kind == JsonKind::null; }

  /// The member with this key; nullptr if there is none, or if this is not an object. Cost: linear.
  [[nodiscard]] const JsonValue* find(std::string_view key) const noexcept;
  /// The member with this key. Throws `load_error{missing_key}`, or `{bad_file}` if this is not an object.
  [[nodiscard]] const JsonValue& at(std::string_view key, std::string_view what) const;

  [[nodiscard]] bool boolean(std::string_view what) const;
  [[nodiscard]] const std::string& string(std::string_view what) const;
  /// A number without fraction or exponent that fits 64 bits.
  [[nodiscard]] std::int64_t integer(std::string_view what) const;
  /// The double nearest to the number. One that a double cannot hold is refused.
  [[nodiscard]] double number(std::string_view what) const;
  [[nodiscard]] const std::vector<JsonValue>& array(std::string_view what) const;
  [[nodiscard]] const std::vector<JsonMember>& object(std::string_view what) const;
};

struct JsonMember {
  std::string key;
  JsonValue value;
};

/// `text` as a JSON string, quotes included; only what must be escaped is. Precondition: `is_utf8(text)`,
/// or the result is no JSON.
[[nodiscard]] inline std::string json_quote(std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  constexpr std::string_view plain = "\"\\\b\f\n\r\t";
  constexpr std::string_view escape = "\"\\bfnrt";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (const std::size_t i = plain.find(c); i != std::string_view::npos)
      out += {'\\', escape[i]};
    else if (byte < 0x20)
      out += {'\\', 'u', '0', '0', hex[byte >> 4U], hex[byte & 15U]};
    else
      out += c;
  }
  return out += '"';
}

/// A byte for a message: `'x'` if it can be printed, else `byte 0x0A`.
[[nodiscard]] inline std::string byte_text(char c) {
  constexpr std::string_view hex = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  if (c > ' ' && c <= '~') return {'\'', c, '\''};
  return {'b', 'y', 't', 'e', ' ', '0', 'x', hex[byte >> 4U], hex[byte & 15U]};
}

/// What a value is, for a message: `null`, `3`, `"x"`, `an array of 2`, `an object`.
[[nodiscard]] inline std::string json_text(const JsonValue& value) {
  const bool is_long = value.text.size() > 80;
  if (value.kind == JsonKind::null) return "null";
  if (value.kind == JsonKind::boolean) return value.truth ? "true" : "false";
  if (value.kind == JsonKind::array) return concat("an array of ", value.items.size());
  if (value.kind == JsonKind::object) return "an object";
  if (value.kind == JsonKind::number)
    return is_long ? concat("a number of ", value.text.size(), " characters") : value.text;
  return is_long ? concat("a string of ", value.text.size(), " bytes") : json_quote(value.text);
}

[[noreturn]] inline void refuse_json(const JsonValue& value, std::string_view what,
                                     std::string_view expected) {
  throw load_error(ErrorCode::bad_file, concat(what, ": expected ", expected, ", got ", json_text(value)),
                   {.key = std::string(what)});
}

inline const JsonValue* JsonValue::find(std::string_view key) const noexcept {
  for (const JsonMember& member : members)
    if (member.key == key) return &member.value;
  return nullptr;
}

inline const JsonValue& JsonValue::at(std::string_view key, std::string_view what) const {
  if (kind != JsonKind::object) refuse_json(*this, what, "an object");
  if (const JsonValue* value = find(key)) return *value;
  throw load_error(ErrorCode::missing_key,
                   concat(what, ": expected a member ", json_quote(key), ", got none"),
                   {.key = std::string(key)});
}

inline bool JsonValue::boolean(std::string_view what) const {
  if (kind != JsonKind::boolean) refuse_json(*this, what, "true or false");
  return truth;
}

inline const std::string& JsonValue::string(std::string_view what) const {
  if (kind != JsonKind::string) refuse_json(*this, what, "a string");
  return text;
}

inline std::int64_t JsonValue::integer(std::string_view what) const {
  std::int64_t value = 0;
  const char* const end = text.data() + text.size();
  if (kind != JsonKind::number) refuse_json(*this, what, "a whole number");
  const auto [stop, problem] = std::from_chars(text.data(), end, value);
  if (problem != std::errc{}) refuse_json(*this, what, "a whole number of 64 bits");
  if (stop != end) refuse_json(*this, what, "a whole number");
  return value;
}

inline double JsonValue::number(std::string_view what) const {
  double value = 0;
  if (kind != JsonKind::number) refuse_json(*this, what, "a number");
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{})
    refuse_json(*this, what, "a number that a double can hold");
  return value;
}

inline const std::vector<JsonValue>& JsonValue::array(std::string_view what) const {
  if (kind != JsonKind::array) refuse_json(*this, what, "an array");
  return items;
}

inline const std::vector<JsonMember>& JsonValue::object(std::string_view what) const {
  if (kind != JsonKind::object) refuse_json(*this, what, "an object");
  return members;
}

} // namespace tenon
