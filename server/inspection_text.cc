// Formats an Inspection as lines for people.
#include "server/inspection_text.h"

#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/memory_budget.h"
#include "server/model_text.h"

namespace baram::server {
namespace {

// 1234567 as "1.23 M", in powers of a thousand.
std::string Short(double value) {
  constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.*f%s", unit == 0 ? 0 : 2, value, kUnits[unit]);
}

std::string Bytes(double value) { return absl::StrCat(Short(value), value < 1000 ? " B" : "B"); }
std::string Bytes(int64_t value) { return Bytes(static_cast<double>(value)); }

class Lines {
 public:
  void Add(const char* name, const std::string& value) {
    absl::StrAppendFormat(&text_, "%-20s %s\n", name, value);
  }

  // The memory that will be used, part by part.
  void AddSum(const MemoryBudget& sum) {
    if (sum.free_bytes > 0) AddPart("free", sum.free_bytes);
    AddPart(sum.share > 0 ? absl::StrFormat("usable, share %.2f", sum.share) : "usable",
            sum.usable_bytes);
    for (const MemoryBudget::Part& part : sum.parts) AddPart(part.name, part.bytes);
    AddPart("together", PartsBytes(sum));
  }

  std::string Take() { return std::move(text_); }

 private:
  void AddPart(const std::string& name, int64_t bytes) {
    absl::StrAppendFormat(&text_, "  %-22s %10s\n", name, Bytes(bytes));
  }

  std::string text_;
};

}  // namespace

std::string DescribeInspection(const Inspection& found, const InspectedText& text) {
  const EngineInfo& info = found.info;
  Lines lines;
  lines.Add("architecture", absl::StrCat(info.architecture, " (", info.family, ")"));
  lines.Add("layers", found.attention.empty() ? absl::StrCat(info.layers) : found.attention);
  lines.Add("parameters", Short(static_cast<double>(info.parameters)));
  if (found.checkpoint_bytes > 0) lines.Add("checkpoint", Bytes(found.checkpoint_bytes));
  lines.Add("weights in memory", Bytes(info.weight_bytes));
  lines.Add("vocabulary", absl::StrCat(info.vocab_size));
  if (!info.defaults.eos_ids.empty()) {
    lines.Add("EOS ids", absl::StrJoin(info.defaults.eos_ids, ", "));
  } else if (text.status.ok()) {
    lines.Add("EOS ids", kNoEosIds);
  }
  if (!info.ignored_eos_ids.empty()) {
    lines.Add("ignored EOS ids",
              absl::StrCat(absl::StrJoin(info.ignored_eos_ids, ", "), ": they are never drawn"));
  }
  if (text.status.ok()) {
    const char* more = ", more than the model has: prompts that hold one of the rest are refused";
    lines.Add("tokenizer",
              absl::StrCat(text.tokens, " tokens", text.tokens > info.vocab_size ? more : ""));
    lines.Add("chat template", text.chat_template);
  }
  lines.Add("model's context", absl::StrCat(info.model_context_len));
  if (info.page_tokens > 0) {
    const std::string each = info.kv_bytes_per_token > 0
                                 ? Bytes(info.kv_bytes_per_token) + " a token"
                                 : "nothing beyond the windows";
    lines.Add("KV cache", absl::StrCat(each, ", pages of ", info.page_tokens, " tokens"));
  }
  lines.Add("device", info.processor.empty() ? info.device : info.processor);
  lines.Add("memory", Bytes(found.memory_bytes));
  if (found.servable.ok()) {
    lines.AddSum(info.memory);
    lines.Add("fits",
              absl::StrCat(info.kv_tokens, " tokens of KV (", info.pages, " pages, ",
                           Bytes(info.pages * info.page_bytes), "), context ", info.max_model_len,
                           ", ", info.max_num_seqs, " sequences at once"));
  }
  const char* name = "servable";
  if (text.status.ok() && found.servable.ok()) lines.Add(name, "yes");
  for (const absl::Status& status : {text.status, found.servable}) {
    if (status.ok()) continue;
    const bool first = name[0] != '\0';
    lines.Add(name, absl::StrCat(first ? "no: " : "and: ", status.message()));
    name = "";
  }
  return lines.Take();
}

}  // namespace baram::server
