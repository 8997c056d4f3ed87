// baram inspect: what a model folder holds, and whether and how this machine can serve it.
#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/engine.h"
#include "server/commands.h"
#include "server/folder_text.h"
#include "server/settings.h"

namespace baram::server {
namespace {

constexpr char kHelp[] =
    R"(baram inspect --model DIR [settings]

Reads a model folder without loading its weights: family, layers, sizes, tokenizer, chat template,
what fits in this machine's memory, and why `serve` would refuse it if it would. Exit code 0 if it
would not, else that of `serve`.

)";

// 1234567 as "1.23 M", in powers of a thousand.
std::string Short(double value) {
  constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat(unit == 0 ? "%.0f%s" : "%.2f%s", value, kUnits[unit]);
}

std::string Bytes(double value) { return absl::StrCat(Short(value), value < 1000 ? " B" : "B"); }

void Line(const char* name, const std::string& value) {
  std::printf("%-20s %s\n", name, value.c_str());
}

// What is taken of a GPU's memory, part by part.
void PrintSum(const MemorySum& sum) {
  const auto line = [](const char* name, int64_t bytes) {
    std::printf("  %-22s %10s\n", name, Bytes(static_cast<double>(bytes)).c_str());
  };
  line("free", sum.free_bytes);
  const std::string usable =
      sum.share > 0 ? absl::StrFormat("usable, share %.2f", sum.share) : "usable";
  line(usable.c_str(), sum.usable_bytes);
  int64_t all = 0;
  for (const MemorySum::Part& part : sum.parts) {
    line(part.name.c_str(), part.bytes);
    all += part.bytes;
  }
  line("together", all);
}

void Print(const Inspection& found, const absl::StatusOr<FolderText>& text) {
  const EngineInfo& info = found.info;
  Line("architecture", absl::StrCat(info.architecture, " (", info.family, ")"));
  Line("layers", found.attention.empty() ? absl::StrCat(info.layers) : found.attention);
  Line("parameters", Short(static_cast<double>(info.parameters)));
  Line("checkpoint", Bytes(static_cast<double>(found.checkpoint_bytes)));
  Line("weights in memory", Bytes(static_cast<double>(info.weight_bytes)));
  Line("vocabulary", absl::StrCat(info.vocab_size));
  if (!info.eos_ids.empty()) Line("EOS ids", absl::StrJoin(info.eos_ids, ", "));
  if (text.ok()) {
    Line("tokenizer", absl::StrCat(text->tokenizer->vocab_size(), " tokens"));
    Line("chat template", text->chat_template ? "yes" : kNoChatTemplate);
  }
  Line("trained context", absl::StrCat(info.trained_model_len));
  if (info.page_tokens > 0) {
    Line("KV cache", absl::StrCat(Bytes(info.kv_bytes_per_token), " a token, pages of ",
                                  info.page_tokens, " tokens"));
  }
  Line("device", info.processor.empty() ? info.device : info.processor);
  Line("memory", Bytes(static_cast<double>(found.memory_bytes)));
  if (!found.servable.ok()) return;
  if (info.memory.own_memory) PrintSum(info.memory);
  Line("fits",
       absl::StrCat(info.kv_tokens, " tokens of KV (", info.pages, " pages, ",
                    Bytes(static_cast<double>(info.pages) * static_cast<double>(info.page_bytes)),
                    "), context ", info.max_model_len, ", ", info.max_num_seqs,
                    " sequences at once"));
}

}  // namespace

int Inspect(const std::vector<std::string>& args) {
  if (WantsHelp(args)) {
    std::fputs(absl::StrCat(kHelp, SettingsHelp(Command::kInspect)).c_str(), stdout);
    return 0;
  }
  const auto fail = [](const absl::Status& status) {
    std::fprintf(stderr, "baram inspect: %s\n", std::string(status.message()).c_str());
    return ExitCode(status);
  };
  const auto config = ParseSettings(Command::kInspect, args);
  if (!config.ok()) return fail(config.status());
  for (const std::string& warning : UnknownVariables(ProcessVariables())) {
    std::fprintf(stderr, "baram inspect: %s\n", warning.c_str());
  }
  const absl::StatusOr<FolderText> text = LoadFolderText(*config);
  EngineConfig engine = ToEngineConfig(*config);
  if (text.ok()) engine.valid_vocab = text->tokenizer->vocab_size();
  const auto found = Engine::Inspect(engine);
  if (!found.ok()) return fail(found.status());
  Print(*found, text);
  // As `serve` would find them: the text first.
  absl::Status servable = text.status();
  servable.Update(found->servable);
  if (servable.ok()) {
    Line("servable", "yes");
    return 0;
  }
  Line("servable", absl::StrCat("no: ", servable.message()));
  if (!text.ok() && !found->servable.ok())
    Line("", absl::StrCat("and: ", found->servable.message()));
  return ExitCode(servable);
}

}  // namespace baram::server
