// The --config file: lines of `name = value`.
#ifndef BARAM_SERVER_SETTINGS_FILE_H_
#define BARAM_SERVER_SETTINGS_FILE_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace baram::server {

struct FileSetting {
  std::string name;
  std::vector<std::string> values;  // several of a list
  int line = 0;                     // its first, from 1
};

// Reads lines of `name = value`, as TOML has them: comments behind #, values in quotes or bare,
// lists in brackets that may go over several lines. NotFound for a file that can't be read;
// otherwise FailedPrecondition, with the line, for a name that is not among `known` or stands there
// twice, and for lines of another form. A name with "no-" in front is the same as without.
absl::StatusOr<std::vector<FileSetting>> ReadSettingsFile(const std::string& path,
                                                          std::span<const std::string> known);

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTINGS_FILE_H_
