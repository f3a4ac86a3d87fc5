// SPDX-License-Identifier: Apache-2.0
// libFuzzer over the JSON reader: any bytes are read or refused with a sentence; what was read can be written
// and read again, and is then the same.
#include <tenon/core/json.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

std::string write(const tenon::JsonValue& value) {
  std::string out;
  switch (value.kind) {
  case tenon::JsonKind::null:
  case tenon::JsonKind::boolean:
  case tenon::JsonKind::number:
    return value.text.empty() ? tenon::json_text(value) : value.text;
  case tenon::JsonKind::string:
    return tenon::json_quote(value.text);
  case tenon::JsonKind::array:
    for (const tenon::JsonValue& item : value.items) out += (out.empty() ? "" : ",") + write(item);
    return "[" + out + "]";
  case tenon::JsonKind::object:
    for (const tenon::JsonMember& member : value.members)
      out += (out.empty() ? "" : ",") + tenon::json_quote(member.key) + ":" + write(member.value);
  }
  return "{" + out + "}";
}

// Every accessor, on every value: each gives something or throws a load_error.
void visit(const tenon::JsonValue& value) {
  const auto attempt = [](auto&& access) {
    try {
      access();
    } catch (const tenon::load_error&) {
    }
  };
  attempt([&] { static_cast<void>(value.integer("value")); });
  attempt([&] { static_cast<void>(value.number("value")); });
  attempt([&] { static_cast<void>(value.string("value")); });
  attempt([&] { static_cast<void>(value.at("r", "value")); });
  for (const tenon::JsonValue& item : value.items) visit(item);
  for (const tenon::JsonMember& member : value.members) {
    if (value.find(member.key) != &member.value) std::abort();
    visit(member.value);
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const tenon::JsonValue value = tenon::parse_json(text);
    if (!tenon::is_utf8(text)) std::abort();
    visit(value);
    const std::string written = write(value);
    if (write(tenon::parse_json(written)) != written) std::abort();
  } catch (const tenon::load_error& e) {
    if (e.code() != tenon::ErrorCode::bad_file) std::abort();
  }
  return 0;
}
