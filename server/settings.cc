// Settings: fills the table from flags, variables and a file.
#include "server/settings.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/blame.h"
#include "server/arguments.h"
#include "server/foreign_flags.h"
#include "server/process_metrics.h"
#include "server/setting_assign.h"
#include "server/setting_values.h"
#include "server/settings_file.h"
#include "server/settings_table.h"
#include "server/terminal_text.h"
#include "server/text/utf8.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

std::string Advice(const std::string& argument, const CLI::App& app) {
  const std::string word = argument.substr(0, argument.find('='));
  if (word.empty() || word[0] != '-') {
    // Other servers take the model without a flag.
    if (!argument.empty() && app.count("--model") == 0) {
      return absl::StrCat("\"", argument, "\" is not expected here; did you mean --model ",
                          argument, "?");
    }
    return absl::StrCat("\"", word,
                        "\" is not expected here; a setting is written --name VALUE, a "
                        "switch --name, --no-name or --name=false.");
  }
  if (std::string advice = ForeignFlagAdvice(word); !advice.empty()) return advice;
  return DescribeUnknown(argument, app);
}

// The names that a file may hold.
std::vector<FileName> NamesOfFiles() {
  std::vector<FileName> names;
  for (const Setting* s : AllSettings()) {
    names.push_back({std::string(s->name), s->kind == Kind::kList});
    if (s->kind == Kind::kSwitch) names.push_back({absl::StrCat("no-", Piece(s->name))});
  }
  return names;
}

// The arguments' values, as texts.
struct Flags {
  std::map<const Setting*, std::vector<std::string>> values;
  std::string file;
};

// CLI11 does not say which switch has an invalid value, so switches are read here: the last one
// counts.
absl::Status ReadSwitch(std::string_view argument, Flags& flags) {
  if (!argument.starts_with("--")) return absl::OkStatus();
  const size_t equals = argument.find('=');
  const std::string_view flag = argument.substr(0, equals);
  const auto [s, negated] = FindNamed(flag.substr(2));
  if (s == nullptr || s->kind != Kind::kSwitch) return absl::OkStatus();
  const std::string text(equals == std::string_view::npos ? "true" : argument.substr(equals + 1));
  const std::optional<bool> on = ParseSwitch(text);
  if (!on) {
    return absl::InvalidArgumentError(
        absl::StrCat(Piece(flag), " is \"", text, "\" but must be true or false."));
  }
  flags.values[s] = {*on != negated ? "true" : "false"};
  return absl::OkStatus();
}

absl::Status ReadFlags(std::span<const std::string> args, Flags& flags) {
  for (const std::string& argument : args) {
    if (absl::Status read = ReadSwitch(argument, flags); !read.ok()) return read;
  }
  CLI::App app;
  app.add_option("--config", flags.file)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  for (const Setting* s : AllSettings()) {
    const std::string flag = absl::StrCat("--", Piece(s->name));
    if (s->kind == Kind::kSwitch) {
      app.add_flag(absl::StrCat(flag, ",!--no-", Piece(s->name)));
      continue;
    }
    CLI::Option* const option = app.add_option(flag, [&flags, s](const CLI::results_t& texts) {
      flags.values[s] = texts;
      return true;
    });
    if (s->kind == Kind::kList) {
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
          ->expected(1, 1 << 10)
          ->allow_extra_args(false);
    } else {
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
  }
  if (absl::Status parsed = ParseArguments(args, app); !parsed.ok()) return parsed;
  const auto unknown = UnknownArgument(app);
  return unknown ? absl::InvalidArgumentError(Advice(*unknown, app)) : absl::OkStatus();
}

// A trailing comma adds no further part, as in a file.
std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> parts;
  for (const auto part : absl::StrSplit(text, ',')) {
    parts.emplace_back(absl::StripAsciiWhitespace(part));
  }
  if (parts.size() > 1 && parts.back().empty()) parts.pop_back();
  return parts;
}

// Reads variables for settings that the arguments do not set.
absl::Status ReadVariables(const Flags& flags, Environment environment, Config& config) {
  for (const Setting* s : AllSettings()) {
    const std::string variable = Variable(s->name);
    const char* value = environment(variable.c_str());
    if (value == nullptr || *value == '\0' || flags.values.contains(s)) continue;
    const std::vector<std::string> texts =
        s->kind == Kind::kList ? SplitAtCommas(value) : std::vector<std::string>{value};
    const SettingSource source{variable, absl::StatusCode::kFailedPrecondition};
    if (absl::Status set = AssignSetting(*s, texts, source, config); !set.ok()) return set;
  }
  return absl::OkStatus();
}

// Reads the file for settings that neither arguments nor variables set.
absl::Status ReadFile(const Flags& flags, Environment environment, Config& config) {
  std::string name = "--config", path = flags.file;
  if (const char* variable = environment("BARAM_CONFIG"); path.empty() && variable != nullptr) {
    name = "BARAM_CONFIG";
    path = variable;
  }
  if (path.empty()) return absl::OkStatus();
  const std::string file = absl::StrCat(name, " ", path);
  auto settings = ReadSettingsFile(path, NamesOfFiles());
  if (!settings.ok()) {
    const char* const between = absl::IsNotFound(settings.status()) ? ": " : ", ";
    return absl::Status(settings.status().code(),
                        absl::StrCat(file, between, settings.status().message()));
  }
  for (const FileSetting& setting : *settings) {
    const auto [s, negated] = FindNamed(setting.name);
    if (flags.values.contains(s)) continue;
    const char* variable = environment(Variable(s->name).c_str());
    if (variable != nullptr && *variable != '\0') continue;
    const SettingSource source{absl::StrCat(file, ", line ", setting.line, ": ", setting.name),
                               absl::StatusCode::kFailedPrecondition};
    absl::Status set = AssignSetting(*s, setting.values, source, config);
    if (!set.ok()) return set;
    if (negated) {
      bool& on = config.*std::get<bool Config::*>(s->member);
      on = !on;
    }
  }
  return absl::OkStatus();
}

// The default yields to a lower maximum; an explicit value must be within it.
absl::Status FitRequestTimeout(Config& config) {
  const double most = config.max_request_timeout_s;
  if (config.request_timeout_s > most && config.sources.contains("request-timeout")) {
    return WithSource(
        BlameSetting(absl::InvalidArgumentError(absl::StrCat(
                         "request-timeout is ", FormatNumber(config.request_timeout_s),
                         " but must be at most max-request-timeout, ", FormatNumber(most), ".")),
                     "request-timeout"),
        config);
  }
  config.request_timeout_s = std::min(config.request_timeout_s, most);
  return absl::OkStatus();
}

// Whether the model can be served under its folder's name.
absl::Status CheckFolderName(const Config& config) {
  const std::string& name = config.served_model_names.front();
  const char* const fault = HoldsControl(name)         ? "holds a control character"
                            : !text::IsValidUtf8(name) ? "is not valid UTF-8"
                                                       : nullptr;
  if (fault == nullptr) return absl::OkStatus();
  return WithSource(BlameSetting(absl::InvalidArgumentError(absl::StrCat(
                                     "the folder's name ", fault,
                                     "; give the model another name with --served-model-name.")),
                                 "model"),
                    config);
}

// Variables that Kubernetes sets in every container for a service whose name begins with "baram":
// BARAM_SERVICE_HOST, BARAM_PORT=tcp://..., BARAM_PORT_8000_TCP_ADDR and so on.
bool IsServiceLink(const std::string& entry) {
  const size_t equals = entry.find('=');
  const std::string name = entry.substr(0, equals);
  return absl::StrContains(name, "_SERVICE_HOST") || absl::StrContains(name, "_SERVICE_PORT") ||
         absl::StrContains(name, "_TCP") || absl::StrContains(name, "_UDP") ||
         absl::StrContains(entry, "=tcp://") || absl::StrContains(entry, "=udp://");
}

}  // namespace

const char* ProcessEnvironment(const char* name) { return std::getenv(name); }

std::vector<std::string> ProcessVariables() {
  std::vector<std::string> entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    entries.emplace_back(*entry);
  }
  return entries;
}

std::vector<std::string> UnknownVariables(std::span<const std::string> entries,
                                          std::string_view program) {
  std::vector<std::string> known = {"BARAM_CONFIG", "BARAM_SERVER"};
  for (const Setting* s : AllSettings()) known.push_back(Variable(s->name));
  const std::vector<std::string_view> views(known.begin(), known.end());
  std::vector<std::string> warnings;
  for (const std::string& entry : entries) {
    const std::string name = entry.substr(0, entry.find('='));
    if (!name.starts_with("BARAM_") || IsServiceLink(entry) ||
        std::find(known.begin(), known.end(), name) != known.end()) {
      continue;
    }
    const std::string nearest(Nearest(name, views));
    warnings.push_back(absl::StrCat(
        "the variable ", name, " is no setting",
        nearest.empty() ? absl::StrCat("; ", Piece(program), " serve --help lists them")
                        : absl::StrCat(". Did you mean ", nearest, "?")));
  }
  return warnings;
}

absl::StatusOr<Config> ParseSettings(std::span<const std::string> args, Environment environment) {
  Config config;
  Flags flags;
  if (absl::Status read = ReadFlags(args, flags); !read.ok()) return read;
  absl::Status set = ReadFile(flags, environment, config);
  if (set.ok()) set = ReadVariables(flags, environment, config);
  for (const auto& [s, texts] : flags.values) {
    const SettingSource source{absl::StrCat("--", Piece(s->name)),
                               absl::StatusCode::kInvalidArgument};
    if (set.ok()) set = AssignSetting(*s, texts, source, config);
  }
  if (!set.ok()) return set;
  if (absl::Status fits = FitRequestTimeout(config); !fits.ok()) return fits;
  if (config.model.empty()) {
    return absl::InvalidArgumentError(
        "--model is missing: name the folder of a model, as in --model ./my-model.");
  }
  if (config.served_model_names.empty()) {
    config.served_model_names.push_back(DefaultModelName(config.model));
    if (absl::Status fits = CheckFolderName(config); !fits.ok()) return fits;
  }
  return config;
}

absl::Status WithSource(const absl::Status& error, const Config& config) {
  const std::string name = BlamedSetting(error);
  if (name.empty()) return error;
  const auto given = config.sources.find(name);
  const SettingSource source =
      given != config.sources.end()
          ? given->second
          : SettingSource{absl::StrCat("--", name), absl::StatusCode::kFailedPrecondition};
  const bool wrong = absl::IsInvalidArgument(error) || absl::IsFailedPrecondition(error);
  // In a sentence that begins with the name, the source replaces the name.
  const std::string message(error.message());
  std::string_view rest = message;
  const bool named = rest.starts_with(name + " ");
  if (named) rest.remove_prefix(name.size());
  return absl::Status(wrong ? source.code : error.code(),
                      absl::StrCat(source.shown, named ? "" : ": ", Piece(rest)));
}

bool WantsHelp(std::span<const std::string> args) {
  return std::any_of(args.begin(), args.end(),
                     [](const std::string& a) { return a == "--help" || a == "-h"; });
}

EngineConfig ToEngineConfig(const Config& config) {
  EngineConfig engine = config;
  // The HTTP listener and delivery, which see bytes leave, decide which client reads too slowly.
  // The engine sees only full rings, and a ring is also full while a fast client reads a large
  // chunk of other outputs, or while one prompt waits for another. No call lasts longer than this,
  // so the engine never ends one for it.
  engine.longest_pause_s = config.max_request_timeout_s;
  // The process is measured once: sums for several contexts are compared.
  engine.host_parts = [config, process = std::optional<int64_t>()](int64_t context) mutable {
    if (!process) process = ResidentBytes();
    return std::vector<MemoryBudget::Part>{{"process and tokenizer", *process},
                                           {"texts", TokenizingBytes(config, context)}};
  };
  return engine;
}

int64_t MaxPromptBytes(const Config& config, int64_t context) {
  constexpr int64_t kBytesPerToken = 64;  // more than any text has, except whitespace
  constexpr int64_t kMin = 256 << 10, kMax = 4 << 20;
  if (config.max_prompt_bytes > 0) return config.max_prompt_bytes;
  return std::clamp(kBytesPerToken * context, kMin, kMax);
}

int64_t TokenizingBytes(const Config& config, int64_t context) {
  constexpr int64_t kPeakBytes = 350;  // peak memory per byte of text being tokenized
  // One thread takes only short texts.
  const int64_t at_once = std::max(1, config.text_threads - 1);
  return at_once * kPeakBytes * MaxPromptBytes(config, context);
}

}  // namespace baram::server
