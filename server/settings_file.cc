// SettingsFile: see the header.
#include "server/settings_file.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/setting_values.h"

namespace baram::server {
namespace {

absl::string_view WithoutComment(absl::string_view text) {
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '#') {
      text = text.substr(0, i);
    }
  }
  return absl::StripAsciiWhitespace(text);
}

// Whether the line opens a list that a later line ends.
bool OpensList(absl::string_view line) {
  const size_t equals = line.find('=');
  if (equals == absl::string_view::npos) return false;
  const absl::string_view value = WithoutComment(line.substr(equals + 1));
  return absl::StartsWith(value, "[") && !absl::EndsWith(value, "]");
}

}  // namespace

SettingsFile::SettingsFile(std::vector<std::string> known, absl::Status& error)
    : known_(std::move(known)), error_(error) {}

std::vector<CLI::ConfigItem> SettingsFile::from_config(std::istream& input) const {
  const std::string text{std::istreambuf_iterator<char>(input), {}};
  std::istringstream lines(text);
  bool in_list = false;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (in_list) {
      in_list = !absl::EndsWith(WithoutComment(line), "]");
      continue;
    }
    if (absl::Status status = CheckLine(line); !status.ok()) {
      error_.Update(
          absl::Status(status.code(), absl::StrCat("line ", number, ": ", status.message())));
      return {};
    }
    in_list = OpensList(line);
  }
  std::istringstream again(text);
  return CLI::ConfigTOML::from_config(again);
}

absl::Status SettingsFile::CheckLine(std::string_view line) const {
  const absl::string_view bare =
      absl::StripAsciiWhitespace(absl::string_view(line.data(), line.size()));
  if (bare.empty() || bare.front() == '#' || bare.front() == ';') return absl::OkStatus();
  const size_t equals = bare.find('=');
  if (bare.front() == '[' || equals == absl::string_view::npos) {
    return absl::FailedPreconditionError(
        absl::StrCat("\"", bare, "\" is not of the form name = value."));
  }
  absl::string_view name = absl::StripAsciiWhitespace(bare.substr(0, equals));
  if (name.size() > 1 && name.front() == name.back() && (name[0] == '"' || name[0] == '\'')) {
    name = name.substr(1, name.size() - 2);
  }
  if (std::find(known_.begin(), known_.end(), name) != known_.end()) return absl::OkStatus();
  const std::vector<std::string_view> views(known_.begin(), known_.end());
  const std::string nearest(Nearest(std::string(name), views));
  return absl::FailedPreconditionError(
      absl::StrCat("there is no setting \"", name, "\"",
                   nearest.empty() ? "; --help lists what there is."
                                   : absl::StrCat(". Did you mean ", nearest, "?")));
}

}  // namespace baram::server
