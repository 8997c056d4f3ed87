// Field-by-field validation of a call.
#include "server/call_checks.h"

#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/text/utf8.h"

namespace baram::server {
namespace {

static_assert(kMaxStopTokenIds + kMaxEosIds + 1 <= kMaxStopIds, "a client's stop ids always fit");

// Checks that keep the first error, so that a list of checks reads linearly.
class Checks {
 public:
  // Requires min <= value <= max; `open` excludes min itself. NaN fails. Integers are shown with
  // all their digits.
  template <typename T>
  void Range(std::string_view field, T value, std::type_identity_t<T> min,
             std::type_identity_t<T> max, bool open = false) {
    const auto inside = [&](T v) { return v >= min && v <= max && !(open && v == min); };
    if (inside(value)) return;
    std::string shown = absl::StrCat(value);
    if constexpr (std::is_floating_point_v<T>) {
      // Few digits read better, unless they round to an allowed value.
      double rounded = 0;
      if (absl::SimpleAtod(shown, &rounded) && inside(rounded)) {
        std::array<char, 32> digits;
        shown.assign(digits.data(),
                     std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
      }
    }
    Fail(field, absl::StrCat("is ", shown, " but must be ", open ? "above " : "from ", min,
                             open ? " and at most " : " to ", max, "."));
  }
  void Id(std::string_view field, int64_t id, int64_t vocab_size) {
    status_.Update(CheckTokenId(field, id, vocab_size));
  }
  void AtMost(std::string_view field, size_t count, size_t max, std::string_view what) {
    if (count > max) status_.Update(TooMany(field, count, max, what));
  }
  void Fail(std::string_view field, std::string_view rest) {
    if (!status_.ok()) return;
    status_ = InvalidValue(field, rest);
  }
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

void CheckSampling(const Call& call, int32_t max_n, int32_t vocab_size, Checks& checks) {
  const auto range = [&](std::string_view field, const std::optional<double>& value, double min,
                         double max, bool open = false) {
    if (value) checks.Range(field, *value, min, max, open);
  };
  range("sampling.temperature", call.temperature, 0, 2);
  range("sampling.top_p", call.top_p, 0, 1);
  range("sampling.min_p", call.min_p, 0, 1);
  range("sampling.repetition_penalty", call.repetition_penalty, 0, 2, true);
  range("sampling.presence_penalty", call.presence_penalty, -2, 2);
  range("sampling.frequency_penalty", call.frequency_penalty, -2, 2);
  if (call.top_k && *call.top_k < -1) {
    checks.Fail("sampling.top_k",
                absl::StrCat("is ", *call.top_k, " but must be at least 1, or 0 for off."));
  }
  checks.Range("sampling.n", call.n, 1, max_n);
  checks.AtMost("sampling.logit_bias", call.logit_bias.size(), kMaxBiasedTokens, "entries");
  for (const auto& [id, bias] : call.logit_bias) {
    checks.Id("sampling.logit_bias", id, vocab_size);
    checks.Range("sampling.logit_bias", bias, -100, 100);
  }
}

void CheckStopping(const Call& call, int32_t vocab_size, Checks& checks) {
  if (call.max_tokens && *call.max_tokens < 1) {
    checks.Fail("stopping.max_tokens",
                absl::StrCat("is ", *call.max_tokens, " but must be at least 1."));
  }
  if (call.min_tokens < 0) {
    checks.Fail("stopping.min_tokens",
                absl::StrCat("is ", call.min_tokens, " but must be at least 0."));
  }
  if (call.max_tokens && call.min_tokens > *call.max_tokens) {
    checks.Fail("stopping.min_tokens",
                absl::StrCat("is ", call.min_tokens, " but must be at most ", call.max_tokens_name,
                             ", ", *call.max_tokens, "."));
  }
  checks.AtMost("stopping.stop", call.stop.size(), kMaxStops, "strings");
  for (const std::string& stop : call.stop) {
    if (stop.empty()) checks.Fail("stopping.stop", "holds an empty string; leave it out.");
    checks.AtMost("stopping.stop", stop.size(), kMaxStopBytes, "bytes in one string");
    if (!text::IsValidUtf8(stop)) checks.Fail("stopping.stop", "is not valid UTF-8.");
  }
  checks.AtMost("stopping.stop_token_ids", call.stop_token_ids.size(), kMaxStopTokenIds, "ids");
  for (const int64_t id : call.stop_token_ids) {
    checks.Id("stopping.stop_token_ids", id, vocab_size);
  }
}

void CheckOutput(const Call& call, Checks& checks) {
  const auto logprobs = [&](std::string_view field, const std::optional<int64_t>& value) {
    if (value) checks.Range(field, *value, 0, kMaxTopLogprobs);
  };
  logprobs("output.logprobs", call.logprobs);
  logprobs("output.prompt_logprobs", call.prompt_logprobs);
}

void CheckRest(const Call& call, int32_t max_model_len, int32_t min_priority, Checks& checks) {
  checks.AtMost("cache.salt", call.cache_salt.size(), kMaxSaltBytes, "bytes");
  if (call.priority < min_priority) {
    checks.Fail("priority", absl::StrCat("is ", call.priority, " but must be at least ",
                                         min_priority, ", this server's --min-priority."));
  }
  checks.Range("priority", call.priority, min_priority, std::numeric_limits<int32_t>::max());
  // -1 keeps as much as the context holds besides max_tokens, as in vLLM.
  if (call.truncate_prompt_tokens && *call.truncate_prompt_tokens != -1) {
    checks.Range("truncate_prompt_tokens", *call.truncate_prompt_tokens, 1, max_model_len - 1);
  }
}

}  // namespace

absl::Status CheckCall(const Call& call, const EngineInfo& model, const Config& config) {
  Checks checks;
  CheckRest(call, model.max_model_len, config.min_priority, checks);
  CheckSampling(call, config.max_n, model.vocab_size, checks);
  CheckStopping(call, model.vocab_size, checks);
  CheckOutput(call, checks);
  return checks.status();
}

absl::Status CheckTokenId(std::string_view field, int64_t id, int64_t vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return InvalidValue(field, absl::StrCat("holds the token id ", id, " but the vocabulary ends at ",
                                          vocab_size - 1, "."));
}

}  // namespace baram::server
