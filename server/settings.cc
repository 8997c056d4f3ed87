// Settings: how flags, variables and a file fill the table.
#include "server/settings.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/arguments.h"
#include "server/foreign_flags.h"
#include "server/setting_values.h"
#include "server/settings_file.h"
#include "server/settings_table.h"

namespace baram::server {
namespace {

// Sets one setting from its text; the error says what would do.
absl::Status Assign(const Setting& s, const Names& texts, Config& config) {
  const std::string& text = texts.empty() ? std::string() : texts.back();
  const auto fail = [&](const std::string& want) {
    return absl::InvalidArgumentError(absl::StrCat("--", std::string(s.name), " (",
                                                   Variable(s.name), ") is \"", text,
                                                   "\" but must be ", want, "."));
  };
  switch (s.kind) {
    case Kind::kText:
      config.*std::get<std::string Config::*>(s.member) = text;
      return absl::OkStatus();
    case Kind::kChoice: {
      const std::vector<std::string> choices = absl::StrSplit(std::string(s.value), '|');
      if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
        return fail(absl::StrCat("one of ", absl::StrJoin(choices, ", ")));
      }
      config.*std::get<std::string Config::*>(s.member) = text;
      return absl::OkStatus();
    }
    case Kind::kEndpoint:
      if (!(text == "off" && s.value.ends_with("|off")) && !ParseEndpoint(text).ok()) {
        return fail(absl::StrCat(std::string(s.value), ", as in 127.0.0.1:8000"));
      }
      config.*std::get<std::string Config::*>(s.member) = text;
      return absl::OkStatus();
    case Kind::kList: {
      Names& list = config.*std::get<Names Config::*>(s.member);
      list = texts;
      if (std::find(list.begin(), list.end(), "") != list.end()) return fail("not empty");
      return absl::OkStatus();
    }
    case Kind::kSwitch:
      if (text != "true" && text != "false") return fail("true or false");
      config.*std::get<bool Config::*>(s.member) = text == "true";
      return absl::OkStatus();
    case Kind::kNumber:
    case Kind::kShare:
    case Kind::kBytes:
    case Kind::kSeconds:
      break;
  }

  const bool bytes = s.kind == Kind::kBytes, seconds = s.kind == Kind::kSeconds;
  const bool share = s.kind == Kind::kShare;
  const auto shown = [&](double v) {
    return bytes ? FormatBytes(static_cast<int64_t>(v)) : FormatNumber(v);
  };
  const std::string want = absl::StrCat(seconds ? "seconds"
                                        : bytes ? "bytes"
                                        : share ? "a share"
                                                : "a whole number",
                                        " from ", shown(s.min), " to ", shown(s.max));
  double value = 0;
  if (bytes) {
    const auto parsed = ParseBytes(text);
    if (!parsed) return fail(want);
    value = static_cast<double>(*parsed);
  } else if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
    return fail(want);
  }
  if (value < s.min || value > s.max) return fail(want);
  if (!seconds && !share && value != std::floor(value)) return fail(want);
  std::visit(
      [&](auto member) {
        using T = std::decay_t<decltype(config.*member)>;
        if constexpr (std::is_arithmetic_v<T>) config.*member = static_cast<T>(value);
      },
      s.member);
  return absl::OkStatus();
}

std::string Advice(const std::string& argument, const CLI::App& app) {
  const std::string word = argument.substr(0, argument.find('='));
  if (word.empty() || word[0] != '-') {
    return absl::StrCat("\"", word, "\" is not expected here; a setting is written --name VALUE.");
  }
  if (std::string advice = ForeignFlagAdvice(word); !advice.empty()) return advice;
  return DescribeUnknown(argument, app);
}

// The names that a file may hold, whichever subcommand reads it.
Names NamesOfFiles() {
  Names names;
  for (const Group& group : SettingsTable()) {
    for (const Setting& s : group.settings) {
      names.emplace_back(s.name);
      if (s.kind == Kind::kSwitch) names.push_back(absl::StrCat("no-", std::string(s.name)));
    }
  }
  return names;
}

// True if `args` name the setting, in any of its spellings.
bool Given(std::span<const std::string> args, std::string_view name) {
  for (const std::string& arg : args) {
    const std::string_view flag = std::string_view(arg).substr(0, arg.find('='));
    if (flag == absl::StrCat("--", std::string(name))) return true;
    if (flag == absl::StrCat("--no-", std::string(name))) return true;
  }
  return false;
}

// The flags that the variables stand for, where the arguments do not name them themselves.
Names FromEnvironment(Command command, std::span<const std::string> args, Environment environment) {
  Names flags;
  const auto add = [&](std::string_view name, absl::string_view value) {
    flags.push_back(absl::StrCat("--", std::string(name), "=", value));
  };
  for (const Group& group : SettingsTable()) {
    for (const Setting& s : group.settings) {
      if (command == Command::kInspect && !s.inspect) continue;
      const char* value = environment(Variable(s.name).c_str());
      if (value == nullptr || *value == '\0' || Given(args, s.name)) continue;
      if (s.kind != Kind::kList) {
        add(s.name, value);
        continue;
      }
      for (const auto part : absl::StrSplit(value, ',')) {
        add(s.name, absl::StripAsciiWhitespace(part));
      }
    }
  }
  const char* file = environment("BARAM_CONFIG");
  if (file != nullptr && *file != '\0' && !Given(args, "config")) add("config", file);
  return flags;
}

// What Kubernetes sets in every container for a service whose name begins with "baram":
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

Names ProcessVariables() {
  Names entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    entries.emplace_back(*entry);
  }
  return entries;
}

Names UnknownVariables(std::span<const std::string> entries) {
  Names known = {"BARAM_CONFIG", "BARAM_SERVER"};
  for (const Group& group : SettingsTable()) {
    for (const Setting& s : group.settings) known.push_back(Variable(s.name));
  }
  const std::vector<std::string_view> views(known.begin(), known.end());
  Names warnings;
  for (const std::string& entry : entries) {
    const std::string name = entry.substr(0, entry.find('='));
    if (!name.starts_with("BARAM_") || IsServiceLink(entry) ||
        std::find(known.begin(), known.end(), name) != known.end()) {
      continue;
    }
    const std::string nearest(Nearest(name, views));
    warnings.push_back(absl::StrCat("the variable ", name, " is no setting",
                                    nearest.empty()
                                        ? "; baram serve --help lists them"
                                        : absl::StrCat(". Did you mean ", nearest, "?")));
  }
  return warnings;
}

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
      return kExitNoInput;
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:  // a model that baram or the device can't serve
      return kExitData;
    case absl::StatusCode::kFailedPrecondition:
      return kExitConfig;
    case absl::StatusCode::kUnavailable:
      return kExitUnavailable;
    case absl::StatusCode::kResourceExhausted:
      return kExitOs;
    default:
      return kExitInternal;
  }
}

absl::StatusOr<Config> ParseSettings(Command command, std::span<const std::string> args,
                                     Environment environment) {
  Config config;
  absl::Status error, file_error;
  CLI::App app;
  // Unknown names were refused before; what another subcommand takes is none of this one's.
  app.allow_config_extras(CLI::config_extras_mode::ignore_all);
  CLI::Option* const file = app.set_config("--config");
  app.config_formatter(std::make_shared<SettingsFile>(NamesOfFiles(), file_error));
  for (const Group& group : SettingsTable()) {
    for (const Setting& s : group.settings) {
      if (command == Command::kInspect && !s.inspect) continue;
      const auto assign = [&config, &error, &s](const CLI::results_t& texts) {
        error.Update(Assign(s, texts, config));
        return true;
      };
      const std::string flag = absl::StrCat("--", std::string(s.name));
      if (s.kind == Kind::kSwitch) {
        app.add_flag_function(absl::StrCat(flag, ",!--no-", std::string(s.name)),
                              [assign](int64_t count) { assign({count > 0 ? "true" : "false"}); });
      } else if (s.kind == Kind::kList) {
        app.add_option(flag, assign)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
            ->expected(1, 1 << 10)
            ->allow_extra_args(false);
      } else {
        app.add_option(flag, assign)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
      }
    }
  }

  Names line = FromEnvironment(command, args, environment);
  line.insert(line.end(), args.begin(), args.end());
  if (absl::Status parsed = ParseArguments(line, app); !parsed.ok()) return parsed;
  if (!file_error.ok()) {
    return absl::Status(file_error.code(), absl::StrCat("--config ", file->as<std::string>(), ", ",
                                                        file_error.message()));
  }
  if (!error.ok()) return error;
  if (const auto unknown = UnknownArgument(app)) {
    return absl::InvalidArgumentError(Advice(*unknown, app));
  }
  if (config.model.empty()) {
    return absl::InvalidArgumentError(
        "--model is missing: name the folder of a model, as in --model ./my-model.");
  }
  if (config.page_tokens != 0 && (config.page_tokens & (config.page_tokens - 1)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--page-tokens (BARAM_PAGE_TOKENS) is ",
                                                   config.page_tokens,
                                                   " but must be a power of two."));
  }
  if (config.served_model_names.empty()) {
    config.served_model_names.push_back(DefaultModelName(config.model));
  }
  return config;
}

bool WantsHelp(std::span<const std::string> args) {
  return std::any_of(args.begin(), args.end(),
                     [](const std::string& a) { return a == "--help" || a == "-h"; });
}

EngineConfig ToEngineConfig(const Config& config) {
  EngineConfig engine;
  engine.model = config.model;
  engine.device = config.device;
  engine.isa = config.isa;
  engine.threads = config.threads;
  engine.pin_threads = config.pin_threads;
  engine.max_model_len = config.max_model_len;
  engine.kv_cache_bytes = config.kv_cache_bytes;
  engine.gpu_memory_utilization = config.gpu_memory_utilization;
  engine.page_tokens = config.page_tokens;
  engine.max_num_seqs = config.max_num_seqs;
  engine.max_num_batched_tokens = config.max_num_batched_tokens;
  engine.prefix_cache = config.prefix_cache;
  engine.enforce_eager = config.enforce_eager;
  engine.max_queued_requests = config.max_queued_requests;
  engine.max_queued_tokens = config.max_queued_tokens;
  engine.stream_tokens = config.stream_tokens;
  engine.slow_reader_s = config.slow_reader_s;
  return engine;
}

}  // namespace baram::server
