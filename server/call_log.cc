// CallLog: see the header.
#include "server/call_log.h"

#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/errors.h"
#include "server/log.h"

namespace baram::server {
namespace {

// Minimum interval between two log lines about refused connections.
constexpr auto kRefusedPause = std::chrono::seconds(1);

// One decimal, as in the text log.
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
  std::string line = absl::StrCat("call ", record.method, " ", record.code);
  if (!record.reason.empty()) absl::StrAppend(&line, " ", record.reason);
  if (!record.field.empty()) absl::StrAppend(&line, " field=", record.field);
  if (!record.limit.empty()) absl::StrAppend(&line, " limit=", record.limit);
  if (!record.request_id.empty()) absl::StrAppend(&line, " id=", record.request_id);
  if (!record.peer.empty()) absl::StrAppend(&line, " peer=", record.peer);
  if (record.usage.prompt_tokens > 0) {
    absl::StrAppend(&line, " prompt=", record.usage.prompt_tokens,
                    " cached=", record.usage.cached_tokens,
                    " completion=", record.usage.completion_tokens);
  }
  if (record.usage.first_token_s > 0) {
    absl::StrAppendFormat(&line, " first_ms=%.1f", record.usage.first_token_s * 1e3);
  }
  absl::StrAppendFormat(&line, " ms=%.1f", record.total_s * 1e3);

  Json facts = {
      {"method", record.method}, {"code", record.code}, {"ms", Milliseconds(record.total_s)}};
  if (!record.reason.empty()) facts["reason"] = record.reason;
  if (!record.field.empty()) facts["field"] = record.field;
  if (!record.limit.empty()) facts["limit"] = record.limit;
  if (!record.request_id.empty()) facts["id"] = record.request_id;
  if (!record.peer.empty()) facts["peer"] = record.peer;
  if (record.usage.prompt_tokens > 0) {
    facts["prompt"] = record.usage.prompt_tokens;
    facts["cached"] = record.usage.cached_tokens;
    facts["completion"] = record.usage.completion_tokens;
  }
  if (record.usage.first_token_s > 0) facts["first_ms"] = Milliseconds(record.usage.first_token_s);
  LogFacts(line, "call", facts);
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
  LogFacts(absl::StrCat("refused ", method, " ", code, " ", reason, " connections=", count),
           "refused",
           {{"method", method}, {"code", code}, {"reason", reason}, {"connections", count}});
}

}  // namespace baram::server
