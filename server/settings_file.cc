// The --config file: see the header.
#include "server/settings_file.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/setting_values.h"

namespace baram::server {
namespace {

// Calls `at(i)` for each byte outside of quotes until it returns false. Whether every quote ends.
template <typename At>
bool OutsideQuotes(std::string_view text, At at) {
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (!at(i)) {
      return true;
    }
  }
  return quote == 0;
}

std::string Trimmed(std::string_view text) {
  return std::string(absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size())));
}

std::string WithoutComment(std::string_view line) {
  size_t end = line.size();
  OutsideQuotes(line, [&](size_t i) {
    if (line[i] == '#') end = i;
    return end == line.size();
  });
  return Trimmed(line.substr(0, end));
}

std::string WithoutQuotes(std::string text) {
  const bool quoted =
      text.size() > 1 && text.front() == text.back() && (text[0] == '"' || text[0] == '\'');
  return quoted ? text.substr(1, text.size() - 2) : text;
}

// `text` between commas outside of quotes; a comma behind the last is no further one.
std::vector<std::string> Items(std::string_view text) {
  std::vector<size_t> ends;
  OutsideQuotes(text, [&](size_t i) {
    if (text[i] == ',') ends.push_back(i);
    return true;
  });
  ends.push_back(text.size());
  std::vector<std::string> items;
  size_t begin = 0;
  for (const size_t end : ends) {
    const std::string item = Trimmed(text.substr(begin, end - begin));
    if (end < text.size() || !item.empty()) items.push_back(WithoutQuotes(item));
    begin = end + 1;
  }
  return items;
}

class Reader {
 public:
  Reader(std::span<const std::string> known, std::string text) : known_(known), text_(text) {}

  absl::StatusOr<std::vector<FileSetting>> Read() {
    std::vector<FileSetting> settings;
    for (std::string line; Next(&line);) {
      if (line.empty() || line.front() == ';') continue;
      absl::StatusOr<FileSetting> setting = ReadSetting(line);
      if (!setting.ok()) return setting.status();
      settings.push_back(*std::move(setting));
    }
    return settings;
  }

 private:
  bool Next(std::string* line) {
    if (!std::getline(text_, *line)) return false;
    ++number_;
    *line = WithoutComment(*line);
    return true;
  }

  absl::Status Fail(int line, const std::string& message) const {
    return absl::FailedPreconditionError(absl::StrCat("line ", line, ": ", message));
  }

  absl::StatusOr<FileSetting> ReadSetting(const std::string& line) {
    const int first = number_;
    const size_t equals = line.find('=');
    if (line.front() == '[' || equals == std::string::npos) {
      return Fail(first, absl::StrCat("\"", line, "\" is not of the form name = value."));
    }
    FileSetting setting;
    setting.line = first;
    setting.name = WithoutQuotes(Trimmed(line.substr(0, equals)));
    if (absl::Status name = CheckName(setting.name); !name.ok()) return name;

    std::string value = Trimmed(line.substr(equals + 1));
    const bool list = value.starts_with('[');
    for (std::string more; list && !value.ends_with(']');) {
      if (!Next(&more)) return Fail(first, "the list has no ] at its end.");
      absl::StrAppend(&value, more);
    }
    if (!OutsideQuotes(value, [](size_t) { return true; })) {
      return Fail(first, absl::StrCat("the quote of ", value, " has no end."));
    }
    if (list) {
      setting.values = Items(std::string_view(value).substr(1, value.size() - 2));
    } else {
      setting.values = {WithoutQuotes(value)};
    }
    return setting;
  }

  absl::Status CheckName(const std::string& name) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) {
      const std::vector<std::string_view> views(known_.begin(), known_.end());
      const std::string nearest(Nearest(name, views));
      return Fail(number_,
                  absl::StrCat("there is no setting \"", name, "\"",
                               nearest.empty() ? "; --help lists what there is."
                                               : absl::StrCat(". Did you mean ", nearest, "?")));
    }
    const std::string bare = name.starts_with("no-") ? name.substr(3) : name;
    const auto [before, added] = lines_.emplace(bare, number_);
    if (added) return absl::OkStatus();
    return Fail(number_, absl::StrCat(bare, " stands in line ", before->second,
                                      " already; remove one of them."));
  }

  const std::span<const std::string> known_;
  std::istringstream text_;
  int number_ = 0;
  std::map<std::string, int> lines_;  // of names, without "no-"
};

}  // namespace

absl::StatusOr<std::vector<FileSetting>> ReadSettingsFile(const std::string& path,
                                                          std::span<const std::string> known) {
  std::ifstream file(path);
  // Of a folder the first read fails.
  if (!file || (file.peek() == EOF && file.bad())) {
    return absl::NotFoundError("there is no such file, or it can't be read.");
  }
  return Reader(known, {std::istreambuf_iterator<char>(file), {}}).Read();
}

}  // namespace baram::server
