// baram inspect: what a model folder contains, and whether and how this machine can serve it.
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "server/commands.h"
#include "server/exit_codes.h"
#include "server/inspection_text.h"
#include "server/model_text.h"
#include "server/program_name.h"
#include "server/settings.h"

namespace baram::server {
namespace {

constexpr char kHelp[] =
    R"($0 inspect --model DIR [settings]

Reads a model folder without loading its weights: family, layers, sizes, tokenizer, chat template,
what fits in this machine's memory, and why `serve` would refuse it if it would. Exit code 0 if
`serve` would accept it, otherwise that of `serve`. Only `serve` opens addresses, and checks byte by
byte that a tied output head which is stored separately equals the embedding.

It takes and checks all settings of `serve`; these bear on what it reports:

)";

}  // namespace

int Inspect(const std::string& program, const std::vector<std::string>& args) {
  if (WantsHelp(args)) {
    std::fputs(absl::StrCat(WithProgram(kHelp, program), SettingsHelp(Command::kInspect)).c_str(),
               stdout);
    return 0;
  }
  const auto fail = [](const absl::Status& status) {
    std::fprintf(stderr, "baram inspect: %s\n", std::string(status.message()).c_str());
    return ExitCode(status);
  };
  const auto config = ParseSettings(args);
  if (!config.ok()) return fail(config.status());
  for (const std::string& warning : UnknownVariables(ProcessVariables(), program)) {
    std::fprintf(stderr, "baram inspect: %s\n", warning.c_str());
  }
  const absl::StatusOr<ModelText> text = LoadModelText(*config);
  EngineConfig engine = ToEngineConfig(*config);
  if (text.ok()) engine.vocabulary = [&] { return text->vocabulary(); };
  auto found = Engine::Inspect(engine);
  const absl::Status of_text = WithSource(text.status(), *config);
  // In the order in which `serve` would report them: the text first.
  if (!found.ok()) return fail(text.ok() ? WithSource(found.status(), *config) : of_text);
  found->servable = WithSource(found->servable, *config);
  InspectedText facts;
  facts.status = of_text;
  if (text.ok()) {
    facts.tokens = text->tokenizer->vocab_size();
    found->info.defaults.eos_ids = EosIds(found->info, *text->tokenizer);
    facts.chat_template = !text->chat_template         ? kNoChatTemplate
                          : text->chat_problem.empty() ? "yes"
                                                       : text->chat_problem;
  }
  std::fputs(DescribeInspection(*found, facts).c_str(), stdout);
  return ExitCode(text.ok() ? found->servable : of_text);
}

}  // namespace baram::server
