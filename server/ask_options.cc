// The options of baram ask: see the header.
#include "server/ask_options.h"

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "server/arguments.h"
#include "server/setting_values.h"
#include "server/settings.h"

namespace baram::server {

const char kAskHelp[] =
    R"($0 ask "a question" [options]

Asks a running server and shows its answer as it arrives. Without a question, reads it from standard
input.

  $0 ask "Why is the sky blue?"
  $0 ask --chat
  $0 ask --temperature 0 --timings "Count to five."

Options
  --chat                  Hold a dialogue; /clear forgets it, /quit or Ctrl-D ends it. Ctrl-C ends
                          an answer, or the dialogue if there is none. A line that begins with //
                          is sent with one slash. rlwrap adds arrow keys, a history and a backspace
                          that handles the width of Hangul; this call writes no history file:
                          rlwrap -H /dev/null $0 ask --chat
  --system TEXT           System message.
  --raw                   Continue the text as it is, without the chat template.
  --timings               Show times and token counts after each answer.
  --server HOST:PORT      gRPC address. [BARAM_SERVER; default: 127.0.0.1:50051]
  --model NAME            Served name. [default: the served model]
  --max-tokens N          Maximum tokens of an answer. [default: what the context leaves]
  --temperature T         0 is greedy. [default: the model's]
  --top-p P, --top-k K, --min-p P, --repetition-penalty R
  --seed N                The same seed gives the same answer.
  --stop TEXT             End before this text. May be repeated.

Exit code 0 if all was answered, 64 for wrong options or a question that the server refuses, 69 if
no server answers or it could not finish, 74 if the answer can't be written, 130 after Ctrl-C. In a
dialogue the last answer decides.
)";

absl::StatusOr<AskOptions> ParseAskOptions(const std::vector<std::string>& args) {
  AskOptions options;
  absl::Status error;
  if (const char* server = ProcessEnvironment("BARAM_SERVER"); server != nullptr && *server) {
    options.address = server;
  }
  std::vector<std::string> words;
  CLI::App app;
  app.add_flag("--chat", options.chat);
  app.add_flag("--raw", options.raw);
  app.add_flag("--timings", options.timings);
  app.add_option("--system", options.system);
  app.add_option("--model", options.model);
  app.add_option("--server", options.address);
  AddNumber("--max-tokens", &options.max_tokens, app, error);
  AddNumber("--temperature", &options.temperature, app, error);
  AddNumber("--top-p", &options.top_p, app, error);
  AddNumber("--top-k", &options.top_k, app, error);
  AddNumber("--min-p", &options.min_p, app, error);
  AddNumber("--repetition-penalty", &options.repetition_penalty, app, error);
  AddNumber("--seed", &options.seed, app, error);
  app.add_option("--stop", options.stop)->allow_extra_args(false);
  app.add_option("question", words);
  error.Update(ParseArguments(args, app));
  if (!error.ok()) return error;
  if (const auto unknown = UnknownArgument(app)) {
    return absl::InvalidArgumentError(DescribeUnknown(*unknown, app));
  }
  if (const auto endpoint = ParseEndpoint(options.address);
      !endpoint.ok() || endpoint->host.empty() || endpoint->host.find('/') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("--server is \"", options.address,
                                                   "\" but must be HOST:PORT of the gRPC address, "
                                                   "such as 127.0.0.1:50051."));
  }
  for (const std::string& word : words) {
    absl::StrAppend(&options.question, options.question.empty() ? "" : " ", word);
  }
  return options;
}

}  // namespace baram::server
