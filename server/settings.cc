// The table of settings, and how flags, variables and a file fill it.
#include "server/settings.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>
#include <variant>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/setting_values.h"

namespace baram::server {
namespace {

using Names = std::vector<std::string>;
using Member = std::variant<std::string Config::*, bool Config::*, int32_t Config::*,
                            int64_t Config::*, double Config::*, Names Config::*>;

enum class Kind { kText, kChoice, kEndpoint, kNumber, kBytes, kSeconds, kSwitch, kList };

struct Setting {
  std::string_view name;   // the flag without its dashes, and the key in a file
  Kind kind;
  Member member;
  double min, max;         // of numbers
  std::string_view value;  // what help calls the value; the choices of a kChoice
  std::string_view unset;  // what an empty or zero value means; empty: it means itself
  std::string_view help;
  bool inspect = false;    // taken by `baram inspect` too
};

struct Group {
  std::string_view title;
  std::vector<Setting> settings;
};

constexpr double kMaxInt = std::numeric_limits<int32_t>::max();

const std::vector<Group>& Table() {
  using C = Config;
  static const std::vector<Group> table = {
      {"Model",
       {{"model", Kind::kText, &C::model, 0, 0, "DIR", "required",
         "Folder of a model as Hugging Face lays it out: config.json, *.safetensors, tokenizer.json.",
         true},
        {"served-model-name", Kind::kList, &C::served_model_names, 0, 0, "NAME",
         "the folder's name",
         "Name that clients ask for. Repeat it for further names of the same model."},
        {"chat-template", Kind::kText, &C::chat_template, 0, 0, "FILE", "the folder's",
         "Jinja chat template to use instead of the model folder's."},
        {"generation-config", Kind::kChoice, &C::generation_config, 0, 0, "auto|none", "",
         "auto takes sampling defaults from generation_config.json; none starts from neutral ones. "
         "Its EOS ids count either way."}}},
      {"Device and engine",
       {{"device", Kind::kText, &C::device, 0, 0, "NAME", "",
         "cpu, or ref: plain loops in fp32, slow, the definition of every result.", true},
        {"isa", Kind::kChoice, &C::isa, 0, 0, "avx2|avx512|amx", "the best there is",
         "Instruction set of the CPU device; results are the same with each.", true},
        {"threads", Kind::kNumber, &C::threads, 0, 1024, "N", "the CPUs this process may use",
         "Threads of the CPU device.", true},
        {"pin-threads", Kind::kSwitch, &C::pin_threads, 0, 0, "", "",
         "Bind each of them to a core. Only where nothing else runs on these cores.", true},
        {"max-model-len", Kind::kNumber, &C::max_model_len, 0, kMaxInt, "TOKENS",
         "the model's, as far as memory holds it", "Context: prompt and reply together.", true},
        {"kv-cache-bytes", Kind::kBytes, &C::kv_cache_bytes, 0, kMaxSettingBytes, "BYTES",
         "from free memory", "Memory for the KV cache; 4GiB and 500MB are understood.", true},
        {"page-tokens", Kind::kNumber, &C::page_tokens, 0, 1024, "N", "the device's choice",
         "Tokens of a KV page, a power of two.", true},
        {"max-num-seqs", Kind::kNumber, &C::max_num_seqs, 0, 65536, "N", "from the machine",
         "Sequences that run at once; further ones wait.", true},
        {"max-num-batched-tokens", Kind::kNumber, &C::max_num_batched_tokens, 0, 1 << 20, "TOKENS",
         "from the machine", "Tokens of one step: long prompts are cut into chunks of that.", true},
        {"prefix-cache", Kind::kSwitch, &C::prefix_cache, 0, 0, "", "",
         "Keep the KV pages of past prompts for prompts that begin alike."}}},
      {"Listeners (HOST:PORT; port 0 takes a free one)",
       {{"grpc-listen", Kind::kEndpoint, &C::grpc_listen, 0, 0, "HOST:PORT", "", "gRPC, baram.v1."},
        {"http-listen", Kind::kEndpoint, &C::http_listen, 0, 0, "HOST:PORT|off", "",
         "HTTP as OpenAI's clients speak it."},
        {"metrics-listen", Kind::kEndpoint, &C::metrics_listen, 0, 0, "HOST:PORT|off", "",
         "/metrics for Prometheus, and the probes /startup, /ready and /live."},
        {"http-allowed-origins", Kind::kList, &C::http_allowed_origins, 0, 0, "ORIGIN", "none",
         "Origin whose web pages may call the HTTP API, or *. May be repeated."}}},
      {"Limits",
       {{"max-body-bytes", Kind::kBytes, &C::max_body_bytes, 1024, 1LL << 30, "BYTES", "",
         "Largest HTTP body and gRPC message."},
        {"max-prompt-bytes", Kind::kBytes, &C::max_prompt_bytes, 1, 4 << 20, "BYTES", "",
         "Largest text that is tokenized, counted after the chat template."},
        {"max-n", Kind::kNumber, &C::max_n, 1, 128, "N", "", "Outputs of one request."},
        {"max-queued-requests", Kind::kNumber, &C::max_queued_requests, 1, 1 << 20, "N", "",
         "Requests that wait to run; further ones are refused and may be sent again."},
        {"max-queued-tokens", Kind::kNumber, &C::max_queued_tokens, 1, 1e12, "TOKENS", "",
         "Their prompts together."},
        {"max-connections", Kind::kNumber, &C::max_connections, 1, 1 << 20, "N", "",
         "HTTP connections at once."},
        {"max-streams", Kind::kNumber, &C::max_streams, 1, 1 << 20, "N", "",
         "Calls at once on one gRPC connection."},
        {"max-header-bytes", Kind::kBytes, &C::max_header_bytes, 1024, 1 << 20, "BYTES", "",
         "Headers of an HTTP request, metadata of a gRPC call."},
        {"stream-tokens", Kind::kNumber, &C::stream_tokens, 1, 1 << 20, "TOKENS", "",
         "Tokens an output may be ahead of its reader before it pauses."},
        {"stream-bytes", Kind::kBytes, &C::stream_bytes, 1024, 1 << 30, "BYTES", "",
         "The same in bytes of text, for a whole reply."},
        {"slow-reader", Kind::kSeconds, &C::slow_reader_s, 0.1, 86400, "SECONDS", "",
         "A reply that nobody reads for that long is ended."},
        {"request-timeout", Kind::kSeconds, &C::request_timeout_s, 0.1, 86400, "SECONDS", "",
         "Time of a call that names no deadline."},
        {"max-request-timeout", Kind::kSeconds, &C::max_request_timeout_s, 0.1, 604800, "SECONDS",
         "", "Most time a call gets, whatever it names."},
        {"text-threads", Kind::kNumber, &C::text_threads, 1, 256, "N", "",
         "Threads that tokenize and render chat templates."},
        {"text-queue", Kind::kNumber, &C::text_queue, 1, 1 << 20, "N", "",
         "Calls that may wait for them."},
        {"http-threads", Kind::kNumber, &C::http_threads, 1, 256, "N", "",
         "Threads of the HTTP listeners."}}},
      {"Stopping",
       {{"drain-delay", Kind::kSeconds, &C::drain_delay_s, 0, 3600, "SECONDS", "",
         "After SIGTERM: not ready, but calls are still taken, until load balancers have seen it. "
         "Ctrl-C skips it."},
        {"drain-limit", Kind::kSeconds, &C::drain_limit_s, 0, 86400, "SECONDS", "",
         "Then running calls get that long to finish. A second signal stops at once."}}},
      {"Log",
       {{"log-format", Kind::kChoice, &C::log_format, 0, 0, "text|json", "",
         "Lines for people, or one JSON object a line. Never any content of requests."},
        {"log-level", Kind::kChoice, &C::log_level, 0, 0, "debug|info|warning|error", "",
         "The least that is logged."}}},
  };
  return table;
}

// What vLLM and llama-server call things.
struct Foreign {
  std::string_view flag;
  std::string_view advice;
};
constexpr Foreign kForeign[] = {
    {"-m", "--model"},
    {"-c", "--max-model-len"},
    {"--ctx-size", "--max-model-len"},
    {"--max-seq-len", "--max-model-len"},
    {"-t", "--threads"},
    {"-np", "--max-num-seqs"},
    {"--parallel", "--max-num-seqs"},
    {"-b", "--max-num-batched-tokens"},
    {"--batch-size", "--max-num-batched-tokens"},
    {"-ub", "--max-num-batched-tokens"},
    {"--ubatch-size", "--max-num-batched-tokens"},
    {"-ngl", "--device"},
    {"--gpu-layers", "--device"},
    {"--n-gpu-layers", "--device"},
    {"-a", "--served-model-name"},
    {"--alias", "--served-model-name"},
    {"--chat-template-file", "--chat-template"},
    {"--host", "--grpc-listen, --http-listen and --metrics-listen, as HOST:PORT"},
    {"--port", "--grpc-listen, --http-listen and --metrics-listen, as HOST:PORT"},
    {"--metrics", "--metrics-listen"},
    {"-to", "--request-timeout"},
    {"--timeout", "--request-timeout"},
    {"--gpu-memory-utilization", "--kv-cache-bytes"},
    {"--kv-cache-memory-bytes", "--kv-cache-bytes"},
    {"--swap-space", "--kv-cache-bytes"},
    {"--block-size", "--page-tokens"},
    {"--enable-prefix-caching", "--prefix-cache"},
    {"--no-enable-prefix-caching", "--no-prefix-cache"},
    {"--allowed-origins", "--http-allowed-origins"},
    {"--uvicorn-log-level", "--log-level"},
    {"--shutdown-timeout", "--drain-limit"},
    {"--max-tokens", "max_tokens in each request; --max-model-len bounds them all"},
    {"-n", "max_tokens in each request; --max-model-len bounds them all"},
    {"--n-predict", "max_tokens in each request; --max-model-len bounds them all"},
    {"--temp", "temperature in each request"},
    {"--temperature", "temperature in each request"},
    {"--trust-remote-code", "nothing: baram never runs code from a model folder"},
    {"--tokenizer", "nothing: the tokenizer is the model folder's"},
};

std::string Variable(std::string_view name) {
  return absl::StrCat("BARAM_",
                      absl::AsciiStrToUpper(absl::StrReplaceAll(std::string(name), {{"-", "_"}})));
}

std::string Shown(const Setting& s, const Config& config) {
  const std::string text = std::visit(
      [&](auto member) -> std::string {
        using T = std::decay_t<decltype(config.*member)>;
        const T& v = config.*member;
        if constexpr (std::is_same_v<T, std::string>) return v;
        else if constexpr (std::is_same_v<T, bool>) return v ? "true" : "false";
        else if constexpr (std::is_same_v<T, Names>) return absl::StrJoin(v, ", ");
        else if (s.kind == Kind::kBytes) return FormatBytes(static_cast<int64_t>(v));
        else return FormatNumber(static_cast<double>(v));
      },
      s.member);
  const bool unset = text.empty() || (text == "0" && s.min == 0);
  return unset && !s.unset.empty() ? std::string(s.unset) : text;
}

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
    case Kind::kBytes:
    case Kind::kSeconds:
      break;
  }

  const bool bytes = s.kind == Kind::kBytes, seconds = s.kind == Kind::kSeconds;
  const auto shown = [&](double v) {
    return bytes ? FormatBytes(static_cast<int64_t>(v)) : FormatNumber(v);
  };
  const std::string want =
      absl::StrCat(seconds ? "seconds" : bytes ? "bytes" : "a whole number", " from ",
                   shown(s.min), " to ", shown(s.max));
  double value = 0;
  if (bytes) {
    const auto parsed = ParseBytes(text);
    if (!parsed) return fail(want);
    value = static_cast<double>(*parsed);
  } else if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
    return fail(want);
  }
  if (value < s.min || value > s.max) return fail(want);
  if (!seconds && value != std::floor(value)) return fail(want);
  std::visit(
      [&](auto member) {
        using T = std::decay_t<decltype(config.*member)>;
        if constexpr (std::is_arithmetic_v<T>) config.*member = static_cast<T>(value);
      },
      s.member);
  return absl::OkStatus();
}

std::string Advice(Command command, const std::string& argument) {
  const std::string word = argument.substr(0, argument.find('='));
  if (word.empty() || word[0] != '-') {
    return absl::StrCat("\"", word, "\" is not expected here; a setting is written --name VALUE.");
  }
  for (const Foreign& foreign : kForeign) {
    if (foreign.flag == word) {
      return absl::StrCat("There is no ", word, ". What it decides elsewhere is here: ",
                          std::string(foreign.advice), ".");
    }
  }
  std::vector<std::string> flags;
  for (const Group& group : Table()) {
    for (const Setting& s : group.settings) {
      if (command == Command::kInspect && !s.inspect) continue;
      flags.push_back(absl::StrCat("--", std::string(s.name)));
    }
  }
  const std::vector<std::string_view> views(flags.begin(), flags.end());
  const std::string_view nearest = Nearest(word, views);
  return nearest.empty()
             ? absl::StrCat("There is no ", word, "; --help lists what there is.")
             : absl::StrCat("There is no ", word, ". Did you mean ", std::string(nearest), "?");
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
  for (const Group& group : Table()) {
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

// Appends `text` to `out` in lines of at most 100 columns, each from column `indent` on.
void Wrap(std::string_view text, size_t indent, std::string* out) {
  constexpr size_t kColumns = 100;
  size_t column = indent;
  for (const auto word : absl::StrSplit(absl::string_view(text.data(), text.size()), ' ')) {
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

const char* ProcessEnvironment(const char* name) { return std::getenv(name); }

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return 0;
    case absl::StatusCode::kInvalidArgument: return kExitUsage;
    case absl::StatusCode::kNotFound: return kExitNoInput;
    case absl::StatusCode::kDataLoss: return kExitData;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented: return kExitConfig;
    case absl::StatusCode::kUnavailable: return kExitUnavailable;
    case absl::StatusCode::kResourceExhausted: return kExitOs;
    default: return kExitInternal;
  }
}

absl::StatusOr<Config> ParseSettings(Command command, std::span<const std::string> args,
                                     Environment environment) {
  Config config;
  absl::Status error;
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.set_config("--config");
  for (const Group& group : Table()) {
    for (const Setting& s : group.settings) {
      if (command == Command::kInspect && !s.inspect) continue;
      const auto assign = [&config, &error, &s](const CLI::results_t& texts) {
        error.Update(Assign(s, texts, config));
        return true;
      };
      const std::string flag = absl::StrCat("--", std::string(s.name));
      if (s.kind == Kind::kSwitch) {
        app.add_flag_function(
            absl::StrCat(flag, ",!--no-", std::string(s.name)),
            [assign](int64_t count) { assign({count > 0 ? "true" : "false"}); });
      } else if (s.kind == Kind::kList) {
        app.add_option(flag, assign)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
            ->expected(1, 1 << 10)->allow_extra_args(false);
      } else {
        app.add_option(flag, assign)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
      }
    }
  }

  Names line = FromEnvironment(command, args, environment);
  line.insert(line.end(), args.begin(), args.end());
  std::reverse(line.begin(), line.end());  // as CLI11 wants it
  try {
    app.parse(line);
  } catch (const CLI::FileError& e) {
    return absl::NotFoundError(absl::StrCat("--config: ", e.what()));
  } catch (const CLI::ConfigError& e) {
    return absl::FailedPreconditionError(absl::StrCat("--config: ", e.what()));
  } catch (const CLI::ParseError& e) {
    return absl::InvalidArgumentError(e.what());
  }
  if (!error.ok()) return error;
  if (const Names extras = app.remaining(); !extras.empty()) {
    return absl::InvalidArgumentError(Advice(command, extras.front()));
  }
  if (config.model.empty()) {
    return absl::InvalidArgumentError(
        "--model is missing: name the folder of a model, as in --model ./my-model.");
  }
  if (config.page_tokens != 0 && (config.page_tokens & (config.page_tokens - 1)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--page-tokens (BARAM_PAGE_TOKENS) is ", config.page_tokens, " but must be a power of two."));
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

std::string SettingsHelp(Command command) {
  const Config defaults;
  std::string out;
  for (const Group& group : Table()) {
    std::string body;
    for (const Setting& s : group.settings) {
      if (command == Command::kInspect && !s.inspect) continue;
      std::string left = absl::StrCat("--", std::string(s.name));
      if (s.kind == Kind::kSwitch) {
        left = absl::StrCat("--[no-]", std::string(s.name));
      } else {
        absl::StrAppend(&left, " ", std::string(s.value));
      }
      AddHelp(left,
              absl::StrCat(std::string(s.help), " [", Variable(s.name), "; ",
                           s.unset == "required" ? "" : "default: ", Shown(s, defaults), "]"),
              &body);
    }
    if (!body.empty()) absl::StrAppend(&out, std::string(group.title), "\n", body, "\n");
  }
  absl::StrAppend(&out, "File\n");
  AddHelp("--config FILE",
          "Settings as lines of name = value, names as above without dashes in front. A flag wins "
          "over its variable, a variable over the file. [BARAM_CONFIG; default: none]",
          &out);
  return out;
}

std::string DescribeSettings(const Config& config) {
  const Config defaults;
  std::string out = "Configuration (* is not the default)\n";
  for (const Group& group : Table()) {
    for (const Setting& s : group.settings) {
      const std::string value = Shown(s, config);
      std::string name(s.name);
      name.resize(26, ' ');
      absl::StrAppend(&out, value == Shown(s, defaults) ? "    " : "  * ", name, value, "\n");
    }
  }
  return out;
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
  engine.page_tokens = config.page_tokens;
  engine.max_num_seqs = config.max_num_seqs;
  engine.max_num_batched_tokens = config.max_num_batched_tokens;
  engine.prefix_cache = config.prefix_cache;
  engine.max_queued_requests = config.max_queued_requests;
  engine.max_queued_tokens = config.max_queued_tokens;
  engine.stream_tokens = config.stream_tokens;
  engine.slow_reader_s = config.slow_reader_s;
  return engine;
}

}  // namespace baram::server
