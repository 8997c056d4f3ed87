// The --config file: lines of `name = value`.
#ifndef BARAM_SERVER_SETTINGS_FILE_H_
#define BARAM_SERVER_SETTINGS_FILE_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace baram::server {

// A name that is valid in a file.
struct FileName {
  std::string name;
  bool list = false;  // takes several values
};

struct FileSetting {
  std::string name;
  std::vector<std::string> values;  // one, or the items of a list
  int line = 0;                     // its first line, from 1
};

// Reads lines of `name = value`, similar to TOML: UTF-8 with or without a byte order mark, comments
// after # (except inside a bare value) and lines that begin with ;, values quoted or bare. There
// are no escapes: a backslash is a backslash, and a quote is quoted by the other kind. Several
// values are separated by commas or enclosed in brackets, which may span lines; where one value is
// expected a bracket is part of it, as in [::1]:8000.
//
// NotFound for a file that can't be read; otherwise FailedPrecondition, with the line, for a name
// that is not among `known` or occurs twice, for malformed lines, and for a NUL byte. A name
// prefixed with "no-" is the same as without.
absl::StatusOr<std::vector<FileSetting>> ReadSettingsFile(const std::string& path,
                                                          std::span<const FileName> known);

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTINGS_FILE_H_
