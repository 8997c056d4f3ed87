// SettingsFile: the form of a --config file, checked line by line before CLI11 reads it.
#ifndef BARAM_SERVER_SETTINGS_FILE_H_
#define BARAM_SERVER_SETTINGS_FILE_H_

#include <CLI/CLI.hpp>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace baram::server {

// Lines of `name = value`, comments behind #, lists in brackets that may go over several lines.
class SettingsFile : public CLI::ConfigTOML {
 public:
  // Names that are not among `known`, and lines of another form, are told in `error`, which must
  // outlive this, with the line's number; then the whole file counts for nothing.
  SettingsFile(std::vector<std::string> known, absl::Status& error);

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override;

 private:
  absl::Status CheckLine(std::string_view line) const;

  const std::vector<std::string> known_;
  absl::Status& error_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTINGS_FILE_H_
