// Settings: what an operator can configure, by flags, BARAM_* variables and a file.
//
// One table in settings_table.cc declares each setting once: name, range, help. Defaults are in
// Config. A flag takes precedence over its variable, a variable over the file. Nothing else in the
// program reads the environment.
#ifndef BARAM_SERVER_SETTINGS_H_
#define BARAM_SERVER_SETTINGS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config.h"

namespace baram::server {

// Where the value of a setting comes from.
struct SettingSource {
  std::string shown;      // "--max-n", "BARAM_MAX_N", "--config FILE, line 3: max-n"
  absl::StatusCode code;  // of errors about the value: InvalidArgument for a flag
};

// How many maximum-size requests may be half received at once, per front end.
inline constexpr int64_t kRequestsAtOnce = 32;

// The effective configuration, with defaults here and in EngineConfig. Zero means "from the machine
// and the model" where the table's help says so.
struct Config : EngineConfig {
  // Model
  std::vector<std::string> served_model_names;  // never empty after ParseSettings
  std::string chat_template;                    // file; empty: the folder's
  std::string generation_config = "auto";       // auto | none

  // Listeners, HOST:PORT; port 0 takes a free one, "off" disables it
  std::string grpc_listen = "127.0.0.1:50051";
  std::string http_listen = "127.0.0.1:8000";
  std::string metrics_listen = "127.0.0.1:8002";
  std::vector<std::string> http_allowed_origins;  // empty: no CORS headers at all

  // Limits
  int64_t max_body_bytes = 8 << 20;   // of an HTTP body and of a gRPC message
  int64_t max_reply_bytes = 4 << 20;  // of a single-message gRPC reply; gRPC clients' default limit
  int64_t max_http_reply_bytes = 64 << 20;  // of an HTTP answer, or a stream's prompts
  int64_t max_prompt_bytes = 0;             // see MaxPromptBytes
  int32_t max_n = 16;
  int32_t max_connections = 1024;  // HTTP and gRPC each
  int32_t max_streams = 256;       // concurrent calls per gRPC connection
  int32_t max_header_bytes = 16 << 10;
  int64_t stream_bytes = 256 << 10;     // undelivered text of a reply
  double slow_reader_s = 30;            // until a client that reads nothing is cut off
  double request_timeout_s = 600;       // of calls that set no deadline
  double max_request_timeout_s = 3600;  // upper limit for every call
  int32_t text_threads = 2;             // tokenizing, chat templates, long replies
  int32_t text_queue = 1024;            // texts that wait to be read
  int32_t http_threads = 2;

  // Stopping
  double drain_delay_s = 5;
  double drain_limit_s = 120;

  // Log
  std::string log_format = "text";  // text | json
  std::string log_level = "info";   // debug | info | warning | error

  // Where the explicitly set values come from, by flag name without dashes.
  std::map<std::string, SettingSource, std::less<>> sources;
};

// Looks up a variable; tests supply their own.
using Environment = const char* (*)(const char* name);
const char* ProcessEnvironment(const char* name);
// All variables, as NAME=VALUE.
std::vector<std::string> ProcessVariables();
// A sentence for each entry (NAME=VALUE) that looks like a setting but is not one. Other programs
// may use the prefix, so these are warnings. `program` is as program_name.h has it.
std::vector<std::string> UnknownVariables(std::span<const std::string> entries,
                                          std::string_view program);

// Parses the arguments after the subcommand. Errors are sentences for the operator that say where
// the fault is: a flag that does not exist, with what was probably meant, or has an invalid value
// (InvalidArgument), a variable or a line of the file (FailedPrecondition), a file that can't be
// read (NotFound).
absl::StatusOr<Config> ParseSettings(std::span<const std::string> args,
                                     Environment environment = ProcessEnvironment);
// Rewrites an error that is found later and blames a setting (see BlameSetting) as ParseSettings
// would report it: with the place the value comes from and, if the value is invalid, the code that
// goes with that place. Returns any other error unchanged.
absl::Status WithSource(const absl::Status& error, const Config& config);
// Whether the arguments ask for help.
bool WantsHelp(std::span<const std::string> args);
// The help text of the settings, grouped: all of them, or those that bear on what `inspect`
// reports.
enum class Command { kServe, kInspect };
std::string SettingsHelp(Command command);
// A setting in readable form.
struct ShownSetting {
  std::string name, value;
  bool is_default = false;
};
std::vector<ShownSetting> ShowSettings(const Config& config);
// The effective configuration, one aligned line per setting; values other than the default are
// marked.
std::string DescribeSettings(const Config& config);

// What the engine is opened with: its own settings, and what follows from the others.
EngineConfig ToEngineConfig(const Config& config);

// The largest text that is tokenized for contexts of `context` tokens.
int64_t MaxPromptBytes(const Config& config, int64_t context);
// The peak memory of the texts that are tokenized at once.
int64_t TokenizingBytes(const Config& config, int64_t context);

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTINGS_H_
