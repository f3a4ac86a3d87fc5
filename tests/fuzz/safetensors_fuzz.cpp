// SPDX-License-Identifier: Apache-2.0
// libFuzzer over the safetensors header: any bytes are refused with a sentence, or every tensor lies in the
// file, without overlap, with the bytes of its shape, and is found by its name. The first byte of the input
// chooses whether its length field is set right, so that mutations get past it.
#include <tenon/weights/safetensors_header.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

// The length field as the file would have it if its header ended at the last '}'.
void mend_length(std::string& file) {
  const std::size_t end = file.rfind('}');
  if (file.size() < 8 || end == std::string::npos || end < 8) return;
  for (unsigned i = 0; i < 8; ++i) file[i] = static_cast<char>((end - 7) >> (8 * i) & 0xFFU);
}

void check(std::span<const std::byte> file, const tenon::SafetensorsHeader& header) {
  const std::int64_t data_bytes = static_cast<std::int64_t>(file.size()) - header.data_begin;
  std::int64_t sum = 0;
  for (const tenon::TensorEntry& entry : header.entries) {
    require(0 <= entry.begin && entry.begin <= entry.end && entry.end <= data_bytes);
    const tenon::TensorView view(file.data() + header.data_begin + entry.begin, entry.dtype, entry.shape());
    require(view.bytes() == entry.end - entry.begin && view.is_contiguous());
    require(header.find(entry.name) == &entry);
    sum += view.bytes();
  }
  require(sum == data_bytes);
  for (const tenon::MetadataPair& pair : header.metadata)
    require(header.metadata_value(pair.first) == &pair.second);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string file(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 1) mend_length(file);
  const std::span bytes(reinterpret_cast<const std::byte*>(file.data()), file.size());
  try {
    check(bytes, tenon::parse_safetensors_header(bytes, "fuzz"));
  } catch (const tenon::load_error& e) {
    require(e.code() == tenon::ErrorCode::bad_file);
  }
  return 0;
}
