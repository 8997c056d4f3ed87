// Renders settings for people: help, and the effective configuration.
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/setting_values.h"
#include "server/settings.h"
#include "server/settings_table.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

struct ExitMeaning {
  const char* codes;
  const char* meaning;
  bool serve_only = false;
};
// Their names are in exit_codes.h.
constexpr ExitMeaning kExitCodes[] = {
    {"0", "Success."},
    {"64", "A flag or its value is invalid, or can't work with the model or on this machine."},
    {"65", "The model's files are broken, or describe a model that can't be served."},
    {"66", "The model's folder or a file is missing or can't be read."},
    {"69", "An address is in use, is not this machine's, or can't be resolved now.", true},
    {"70", "Internal error, or the engine hung."},
    {"71", "The device was lost or has no memory, or the machine lacks what it needs."},
    {"74", "The output can't be written."},
    {"78",
     "A variable or a line of the --config file is invalid, or several settings together can't "
     "work."},
    {"129, 130, 143",
     "Stopped at once by SIGHUP, Ctrl-C or SIGTERM: by the second, or by the first while the model "
     "loads.",
     true},
};

std::string Shown(const Setting& s, const Config& config) {
  const std::string text = std::visit(
      [&](auto member) -> std::string {
        using T = std::decay_t<decltype(config.*member)>;
        const T& v = config.*member;
        if constexpr (std::is_same_v<T, std::string>)
          return v;
        else if constexpr (std::is_same_v<T, bool>)
          return v ? "true" : "false";
        else if constexpr (std::is_same_v<T, std::vector<std::string>>)
          return absl::StrJoin(v, ", ");
        else if (s.kind == Kind::kBytes)
          return FormatBytes(static_cast<int64_t>(v));
        else
          return FormatNumber(static_cast<double>(v));
      },
      s.member);
  const bool unset = text.empty() || (text == "0" && s.min == 0);
  return unset && !s.unset.empty() ? std::string(s.unset) : text;
}

// The default as shown by help, which says if 0 selects it too.
std::string ShownDefault(const Setting& s) {
  const bool number = s.kind == Kind::kNumber || s.kind == Kind::kBytes;
  return absl::StrCat(number && !s.unset.empty() ? "0 = " : "", Shown(s, Config()));
}

// Appends `text` to `out` in lines of at most 100 columns, each starting at column `indent`.
void Wrap(std::string_view text, size_t indent, std::string* out) {
  constexpr size_t kColumns = 100;
  size_t column = indent;
  for (const auto word : absl::StrSplit(Piece(text), ' ')) {
    if (column > indent && column + 1 + word.size() > kColumns) {
      absl::StrAppend(out, "\n", std::string(indent, ' '));
      column = indent;
    }
    if (column > indent) {
      absl::StrAppend(out, " ");
      ++column;
    }
    absl::StrAppend(out, word);
    column += word.size();
  }
  absl::StrAppend(out, "\n");
}

void AddHelp(const std::string& left, const std::string& right, std::string* out) {
  constexpr size_t kIndent = 36;
  absl::StrAppend(out, "  ", left);
  if (left.size() + 4 > kIndent) {
    absl::StrAppend(out, "\n", std::string(kIndent, ' '));
  } else {
    absl::StrAppend(out, std::string(kIndent - left.size() - 2, ' '));
  }
  Wrap(right, kIndent, out);
}

}  // namespace

std::string SettingsHelp(Command command) {
  std::string out;
  for (const Group& group : SettingsTable()) {
    std::string body;
    for (const Setting& s : group.settings) {
      if (command == Command::kInspect && !s.inspect) continue;
      std::string left = absl::StrCat("--", Piece(s.name));
      if (s.kind == Kind::kSwitch) {
        left = absl::StrCat("--[no-]", Piece(s.name));
      } else {
        absl::StrAppend(&left, " ", Piece(s.value));
      }
      AddHelp(left,
              absl::StrCat(Piece(s.help), " [", Variable(s.name), "; ",
                           s.required ? "required" : "default: " + ShownDefault(s), "]"),
              &body);
    }
    if (!body.empty()) absl::StrAppend(&out, Piece(group.title), "\n", body, "\n");
  }
  absl::StrAppend(&out, "File\n");
  AddHelp("--config FILE",
          "Settings as lines such as max-num-seqs = 16; # begins a comment. A flag wins over its "
          "variable, a variable over the file. [BARAM_CONFIG; default: none]",
          &out);
  absl::StrAppend(&out, "\nExit codes\n");
  for (const ExitMeaning& code : kExitCodes) {
    if (command == Command::kServe || !code.serve_only) AddHelp(code.codes, code.meaning, &out);
  }
  return out;
}

std::vector<ShownSetting> ShowSettings(const Config& config) {
  Config defaults;
  defaults.served_model_names = {DefaultModelName(config.model)};
  std::vector<ShownSetting> settings;
  for (const Setting* s : AllSettings()) {
    const std::string value = Shown(*s, config);
    settings.push_back({std::string(s->name), value, value == Shown(*s, defaults)});
  }
  return settings;
}

std::string DescribeSettings(const Config& config) {
  std::string out = "Configuration (* is not the default)\n";
  for (ShownSetting& s : ShowSettings(config)) {
    s.name.resize(26, ' ');
    absl::StrAppend(&out, s.is_default ? "    " : "  * ", s.name, s.value, "\n");
  }
  return out;
}

}  // namespace baram::server
