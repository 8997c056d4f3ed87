// The --config file: lines of `name = value`.
#ifndef BARAM_SERVER_SETTINGS_FILE_H_
#define BARAM_SERVER_SETTINGS_FILE_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace baram::server {

// A name that a file may hold.
struct FileName {
  std::string name;
  bool list = false;  // takes several values
};

struct FileSetting {
  std::string name;
  std::vector<std::string> values;  // one, or those of a list
  int line = 0;                     // its first, from 1
};

// Reads lines of `name = value`, much as TOML has them: UTF-8 with or without a mark, comments
// behind # (but for one inside a bare value) and lines that begin with ;, values in quotes or bare.
// Nothing is escaped: a backslash is a backslash, and the other kind of quotes holds a quote.
// Several values stand between commas, or in brackets, which may go over several lines; where one
// value is wanted a bracket is part of it, as in [::1]:8000.
//
// NotFound for a file that can't be read; otherwise FailedPrecondition, with the line, for a name
// that is not among `known` or stands there twice, for lines of another form, and for a NUL byte. A
// name with "no-" in front is the same as without.
absl::StatusOr<std::vector<FileSetting>> ReadSettingsFile(const std::string& path,
                                                          std::span<const FileName> known);

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTINGS_FILE_H_
