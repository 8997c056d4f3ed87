// Sets a field of Config from text, according to the setting's kind.
#include "server/setting_assign.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/setting_values.h"
#include "server/terminal_text.h"
#include "server/text/utf8.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

std::optional<double> ReadPlain(const std::string& text) {
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<double> ReadSize(const std::string& text) {
  const std::optional<int64_t> bytes = ParseBytes(text);
  if (!bytes) return std::nullopt;
  return static_cast<double>(*bytes);
}

std::string ShowSize(double value) { return FormatBytes(static_cast<int64_t>(value)); }

// How a kind's numbers are written.
struct NumberForm {
  Kind kind;
  const char* name;
  const char* note;  // behind the range
  bool whole;
  std::optional<double> (*read)(const std::string& text);
  std::string (*show)(double value);
};

constexpr NumberForm kNumberForms[] = {
    {Kind::kNumber, "a whole number", "", true, ReadPlain, FormatNumber},
    {Kind::kShare, "a share", ", not a percentage", false, ReadPlain, FormatNumber},
    {Kind::kBytes, "whole bytes", "", true, ReadSize, ShowSize},
    {Kind::kSeconds, "seconds", ", without a unit", false, ReadPlain, FormatNumber},
};

// Says what a number must be; empty if it is valid.
std::string CheckNumber(const Setting& s, const NumberForm& form, std::optional<double> value) {
  const bool fits = value && *value >= s.min && *value <= s.max;
  if (!fits || (form.whole && *value != std::floor(*value))) {
    return absl::StrCat(form.name, " from ", form.show(s.min), " to ", form.show(s.max), form.note);
  }
  const char* const wanted = s.check == nullptr ? nullptr : s.check(*value);
  return wanted == nullptr ? "" : wanted;
}

// Sets a number; returns what it must be, or "" if it is valid.
std::string AssignNumber(const Setting& s, const NumberForm& form, const std::string& text,
                         Config& config) {
  const std::optional<double> value = form.read(text);
  if (std::string wanted = CheckNumber(s, form, value); !wanted.empty()) return wanted;
  std::visit(
      [&](auto member) {
        using T = std::decay_t<decltype(config.*member)>;
        if constexpr (std::is_arithmetic_v<T>) config.*member = static_cast<T>(*value);
      },
      s.member);
  return "";
}

// The same for settings that are neither numbers nor lists.
std::string AssignText(const Setting& s, const std::string& text, Config& config) {
  if (s.kind == Kind::kSwitch) {
    const std::optional<bool> on = ParseSwitch(text);
    if (!on) return "true or false";
    config.*std::get<bool Config::*>(s.member) = *on;
    return "";
  }
  if (s.kind == Kind::kChoice) {
    const std::vector<std::string> choices = absl::StrSplit(Piece(s.value), '|');
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      return absl::StrCat("one of ", absl::StrJoin(choices, ", "));
    }
  }
  const bool off = text == "off" && s.may_be_off;
  if (s.kind == Kind::kEndpoint && !off && !ParseEndpoint(text).ok()) {
    return absl::StrCat(Piece(s.value), ", as in 127.0.0.1:8000");
  }
  config.*std::get<std::string Config::*>(s.member) = text;
  return "";
}

absl::Status Must(const SettingSource& source, const std::vector<std::string>& texts,
                  const std::string& wanted) {
  return absl::Status(source.code, absl::StrCat(source.shown, " is \"", absl::StrJoin(texts, ", "),
                                                "\" but must ", wanted, "."));
}

absl::Status AssignList(const Setting& s, const std::vector<std::string>& texts,
                        const SettingSource& source, Config& config) {
  if (std::find(texts.begin(), texts.end(), "") != texts.end()) {
    return Must(source, texts, "have no empty item");
  }
  // They are shown in terminals and written to logs.
  if (std::ranges::any_of(texts, HoldsControl)) {
    return absl::Status(source.code,
                        absl::StrCat(source.shown, " holds a control character; leave it out."));
  }
  // JSON, protobuf and Prometheus labels require it.
  if (!std::ranges::all_of(texts, text::IsValidUtf8)) {
    return absl::Status(source.code,
                        absl::StrCat(source.shown, " is not valid UTF-8; write it in UTF-8."));
  }
  for (const std::string& item : texts) {
    const char* const wanted = s.check_item == nullptr ? nullptr : s.check_item(item);
    if (wanted == nullptr) continue;
    // A flag is not split at commas, unlike a variable.
    const bool several =
        source.code == absl::StatusCode::kInvalidArgument && item.find(',') != std::string::npos;
    return Must(source, {item},
                absl::StrCat("be ", wanted, several ? "; give the flag once for each" : ""));
  }
  config.*std::get<std::vector<std::string> Config::*>(s.member) = texts;
  return absl::OkStatus();
}

}  // namespace

absl::Status AssignSetting(const Setting& setting, const std::vector<std::string>& texts,
                           const SettingSource& source, Config& config) {
  config.sources.insert_or_assign(std::string(setting.name), source);
  if (setting.kind == Kind::kList) return AssignList(setting, texts, source, config);
  const std::string text = texts.empty() ? std::string() : texts.back();
  const auto* const form = std::ranges::find(kNumberForms, setting.kind, &NumberForm::kind);
  const std::string wanted = form == std::end(kNumberForms)
                                 ? AssignText(setting, text, config)
                                 : AssignNumber(setting, *form, text, config);
  if (wanted.empty()) return absl::OkStatus();
  return Must(source, texts, absl::StrCat("be ", wanted));
}

}  // namespace baram::server
