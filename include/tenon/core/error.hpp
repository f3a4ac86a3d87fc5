// SPDX-License-Identifier: Apache-2.0
// What Tenon throws. One root, `tenon::error`, with a code to branch on and the place (file, key, layer) to
// look at; the message already contains the place. A mistake in a program's types never gets here: it does
// not compile.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace tenon {

enum class ErrorCode : std::uint8_t {
  io,              ///< a file could not be opened, mapped, written, or it changed under us
  bad_file,        ///< a file's bytes break its format
  missing_key,     ///< a name that must be there is not
  unexpected_key,  ///< a name that matches nothing
  wrong_shape,     ///< a tensor or an input has another shape than its place takes
  wrong_dtype,     ///< a tensor or an input has another element type than its place takes
  unsupported,     ///< understood, but not something Tenon does
  bad_adapter,     ///< an adapter does not fit its net (several findings together)
  budget_exceeded, ///< an operation would hold more bytes than the budget allows
  out_of_memory,   ///< the system refused the bytes
  bad_argument,    ///< a caller's value is out of its range
  cancelled,       ///< a callback asked for it
  wrong_state,     ///< the call is right, the moment is not (a stale view, a released guard)
  device_failed,   ///< there is no such device, or it, its driver or its libraries refused
};

/// Where an error was met. Empty members are unknown or do not apply.
struct ErrorPlace {
  std::string file{};  ///< path as the caller gave it
  std::string key{};   ///< tensor or JSON key in that file
  std::string layer{}; ///< path of the layer or slot in the net
};

/// Root of everything Tenon throws on purpose.
class error : public std::runtime_error {
 public:
  error(ErrorCode code, const std::string& message, ErrorPlace place = {})
      : std::runtime_error(message), code_(code), place_(std::move(place)) {}

  [[nodiscard]] ErrorCode code() const noexcept { return code_; }
  [[nodiscard]] const ErrorPlace& place() const noexcept { return place_; }

 private:
  ErrorCode code_;
  ErrorPlace place_;
};

/// A file that cannot be read as what it claims to be, or does not fit the net it was opened for.
class load_error : public error {
 public:
  using error::error;
};

/// An input, a weight or an adapter with a shape its place does not take.
class shape_error : public error {
 public:
  using error::error;
};

/// An operation refused before it began, because of the bytes it would need.
class budget_error : public error {
 public:
  using error::error;
};

} // namespace tenon
