// CallLog: see the header.
#include "server/call_log.h"

#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/log.h"

namespace baram::server {
namespace {

// Minimum interval between two log lines about refused connections.
constexpr auto kRefusedPause = std::chrono::seconds(1);

// To one decimal.
double Milliseconds(double seconds) { return std::round(seconds * 1e4) / 10; }

}  // namespace

void CallRecord::SetError(const absl::Status& status) {
  ErrorFacts facts = FactsOf(status);
  reason = std::move(facts.reason);
  field = std::move(facts.field);
  limit = std::move(facts.limit);
}

void CallLog::Record(const CallRecord& record) {
  metrics_.CountCall(record.method, record.code, record.reason);
  if (!record.limit.empty()) metrics_.CountOverload(record.limit);
  Json facts = {{"method", record.method}, {"code", record.code}};
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) facts[key] = value;
  };
  add("reason", record.reason);
  add("field", record.field);
  add("limit", record.limit);
  add("id", record.request_id);
  add("peer", record.peer);
  if (record.usage.prompt_tokens > 0) {
    facts["prompt"] = record.usage.prompt_tokens;
    facts["cached"] = record.usage.cached_tokens;
    facts["completion"] = record.usage.completion_tokens;
  }
  if (record.usage.first_token_s > 0) facts["first_ms"] = Milliseconds(record.usage.first_token_s);
  facts["ms"] = Milliseconds(record.total_s);
  LogFacts("call", facts);
}

void CallLog::RecordHttp(CallRecord record, int status, HttpEnd end) {
  switch (end) {
    case HttpEnd::kSent:
      record.code = absl::StrCat(status);
      break;
    case HttpEnd::kGone:
      record.code = "499";
      record.SetError(absl::OkStatus());
      break;
    case HttpEnd::kSlow:
      record.code = "408";
      record.SetError(SlowReader());
      break;
  }
  Record(record);
}

void CallLog::RecordRefused(const std::string& method, const std::string& code,
                            const std::string& reason, SteadyTime now) {
  metrics_.CountCall(method, code, reason);
  int64_t count;
  {
    std::lock_guard lock(mutex_);
    Refused& refused = refused_[absl::StrCat(method, " ", reason)];
    ++refused.untold;
    if (now < refused.next_line) return;
    refused.next_line = now + kRefusedPause;
    count = std::exchange(refused.untold, 0);
  }
  LogFacts("refused",
           {{"method", method}, {"code", code}, {"reason", reason}, {"connections", count}});
}

}  // namespace baram::server
