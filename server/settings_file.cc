// The --config file: see the header.
#include "server/settings_file.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/setting_values.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;

// The byte order mark that some editors put before UTF-8.
constexpr std::string_view kMark = "\xef\xbb\xbf";

// Calls `at(i)` for each byte outside of quotes until it returns false. Returns whether every quote
// is closed.
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
  return std::string(absl::StripAsciiWhitespace(Piece(text)));
}

// Inside a bare value, as in a#b, # is part of the value.
std::string WithoutComment(std::string_view line) {
  constexpr std::string_view kBefore = " \t,[]\"'";
  size_t end = line.size();
  OutsideQuotes(line, [&](size_t i) {
    if (line[i] == '#' && (i == 0 || kBefore.find(line[i - 1]) != kBefore.npos)) end = i;
    return end == line.size();
  });
  return Trimmed(line.substr(0, end));
}

// A value without its quotes; nullopt if text follows them.
std::optional<std::string> WithoutQuotes(std::string_view text) {
  if (!text.starts_with('"') && !text.starts_with('\'')) return std::string(text);
  if (text.find(text[0], 1) != text.size() - 1) return std::nullopt;
  return std::string(text.substr(1, text.size() - 2));
}

// Splits `text` at commas outside of quotes; a trailing comma adds no further part.
std::vector<std::string> SplitAtCommas(std::string_view text) {
  std::vector<size_t> ends;
  OutsideQuotes(text, [&](size_t i) {
    if (text[i] == ',') ends.push_back(i);
    return true;
  });
  ends.push_back(text.size());
  std::vector<std::string> parts;
  size_t begin = 0;
  for (const size_t end : ends) {
    std::string part = Trimmed(text.substr(begin, end - begin));
    if (end < text.size() || !part.empty()) parts.push_back(std::move(part));
    begin = end + 1;
  }
  return parts;
}

class Reader {
 public:
  Reader(std::span<const FileName> known, const std::string& text)
      : known_(known), text_(text.starts_with(kMark) ? text.substr(kMark.size()) : text) {}

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
    const std::string name = Trimmed(line.substr(0, equals));
    setting.name = WithoutQuotes(name).value_or(name);
    const absl::StatusOr<bool> list = CheckName(setting.name);
    if (!list.ok()) return list.status();

    std::string value = Trimmed(line.substr(equals + 1));
    if (absl::Status quotes = CheckQuotes(value); !quotes.ok()) return quotes;
    std::vector<std::string> texts;
    if (*list) {
      if (value.starts_with('[')) {
        absl::StatusOr<std::string> items = ReadBrackets(value.substr(1));
        if (!items.ok()) return items.status();
        value = *std::move(items);
      }
      texts = SplitAtCommas(value);
    } else if (value.starts_with('[') && value.ends_with(']')) {
      return Fail(first, absl::StrCat(setting.name, " takes one value, not a list."));
    } else {
      texts = {value};
    }
    for (const std::string& text : texts) {
      // Lines were joined by a newline, which no line contains.
      if (const size_t end = text.find('\n'); end != std::string::npos) {
        return Fail(
            first, absl::StrCat("a comma is missing in the list after ", text.substr(0, end), "."));
      }
      std::optional<std::string> plain = WithoutQuotes(text);
      if (!plain) return Fail(first, absl::StrCat(text, " continues after its closing quote."));
      setting.values.push_back(*std::move(plain));
    }
    return setting;
  }

  absl::Status CheckQuotes(const std::string& text) const {
    if (OutsideQuotes(text, [](size_t) { return true; })) return absl::OkStatus();
    return Fail(number_, absl::StrCat("the quote of ", text, " has no end."));
  }

  // The items of a list up to its ], one line of the file per line. `line` is what follows the [.
  absl::StatusOr<std::string> ReadBrackets(std::string line) {
    const int first = number_;
    std::string list;
    while (true) {
      if (absl::Status quotes = CheckQuotes(line); !quotes.ok()) return quotes;
      size_t bracket = line.size();
      OutsideQuotes(line, [&](size_t i) {
        if (line[i] == '[' || line[i] == ']') bracket = i;
        return bracket == line.size();
      });
      list.append(line, 0, bracket);
      if (bracket < line.size()) {
        const std::string after = line.substr(bracket + 1);
        if (line[bracket] == ']' && after.empty()) return list;
        if (line[bracket] == ']') {
          return Fail(number_, absl::StrCat("\"", Trimmed(after), "\" follows the list's ]; ",
                                            "a bracket inside an item needs quotes around it."));
        }
        return Fail(number_, absl::StrCat("the list opened on line ", first,
                                          " is not closed before "
                                          "this [; a bracket inside an item needs quotes around "
                                          "it."));
      }
      list += '\n';
      do {
        if (!Next(&line)) return Fail(first, "the list has no ] at its end.");
      } while (line.starts_with(';'));
    }
  }

  // Whether the setting takes a list.
  absl::StatusOr<bool> CheckName(const std::string& name) {
    const auto known = std::find_if(known_.begin(), known_.end(),
                                    [&](const FileName& one) { return one.name == name; });
    if (known == known_.end()) {
      std::vector<std::string_view> views;
      for (const FileName& one : known_) views.push_back(one.name);
      const std::string nearest(Nearest(name, views));
      return Fail(number_,
                  absl::StrCat("there is no setting \"", name, "\"",
                               nearest.empty() ? "; --help lists what there is."
                                               : absl::StrCat(". Did you mean ", nearest, "?")));
    }
    const std::string bare = name.starts_with("no-") ? name.substr(3) : name;
    const auto [before, added] = lines_.emplace(bare, number_);
    if (added) return known->list;
    return Fail(number_, absl::StrCat(bare, " is already set on line ", before->second, "; ",
                                      known->list ? "write all values there, separated by commas."
                                                  : "remove one of them."));
  }

  const std::span<const FileName> known_;
  std::istringstream text_;
  int number_ = 0;
  std::map<std::string, int> lines_;  // of names, without "no-"
};

}  // namespace

absl::StatusOr<std::vector<FileSetting>> ReadSettingsFile(const std::string& path,
                                                          std::span<const FileName> known) {
  std::ifstream file(path);
  // A folder can be opened; only the first read fails.
  if (!file || (file.peek() == EOF && file.bad())) {
    return absl::NotFoundError("there is no such file, or it can't be read.");
  }
  // A pipe works as well, and its size is not known beforehand.
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    return absl::FailedPreconditionError(absl::StrCat("there are more than ", kMaxFileBytes,
                                                      " bytes: this is no file of settings."));
  }
  // A NUL would end values and messages early; UTF-16 files are full of them.
  if (const size_t nul = text.find('\0'); nul != std::string::npos) {
    const auto line =
        1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(nul), '\n');
    return absl::FailedPreconditionError(
        absl::StrCat("line ", line, ": there is a NUL byte; save the file as text in UTF-8."));
  }
  return Reader(known, text).Read();
}

}  // namespace baram::server
