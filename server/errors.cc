// Client-visible errors, and their facts as payloads of absl::Status.
#include "server/errors.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/blame.h"
#include "server/random.h"
#include "server/text/utf8.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

constexpr char kFieldUrl[] = "baram/field";
constexpr char kReasonUrl[] = "baram/reason";
constexpr char kRetryUrl[] = "baram/retry_ms";
constexpr char kSubjectUrl[] = "baram/subject";  // the field name that the sentence begins with

// A retry that goes to another replica may come soon.
constexpr int64_t kRetryElsewhereMs = 1000;

// Errors quote the client's own words, and gRPC clients accept 8 KiB of trailers.
constexpr size_t kMaxMessageBytes = 1024;
constexpr size_t kMaxNameBytes = 128;

std::string Cut(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  return absl::StrCat(Piece(text.substr(0, text::FloorToCodePoint(text, max_bytes))), "...");
}

std::string Payload(const absl::Status& status, const char* url) {
  const auto payload = status.GetPayload(url);
  return payload ? std::string(*payload) : std::string();
}

// 100 to 2,000 ms, drawn per call.
int64_t JitteredMs() { return 100 + static_cast<int64_t>(RandomBits() % 1901); }

}  // namespace

ErrorFacts FactsOf(const absl::Status& status) {
  ErrorFacts facts;
  facts.field = Payload(status, kFieldUrl);
  facts.reason = Payload(status, kReasonUrl);
  facts.limit = BlamedSetting(status);
  if (!absl::SimpleAtoi(Payload(status, kRetryUrl), &facts.retry_ms)) facts.retry_ms = -1;
  return facts;
}

absl::Status WithFacts(absl::Status status, const ErrorFacts& facts) {
  if (!facts.field.empty()) status.SetPayload(kFieldUrl, absl::Cord(facts.field));
  if (!facts.reason.empty()) status.SetPayload(kReasonUrl, absl::Cord(facts.reason));
  if (!facts.limit.empty()) status = BlameSetting(std::move(status), facts.limit);
  if (facts.retry_ms >= 0) status.SetPayload(kRetryUrl, absl::Cord(absl::StrCat(facts.retry_ms)));
  return status;
}

absl::Status InvalidField(std::string_view field, std::string_view message) {
  return WithFacts(absl::InvalidArgumentError(Cut(message, kMaxMessageBytes)),
                   {.field = std::string(field), .reason = "INVALID_FIELD"});
}

absl::Status InvalidValue(std::string_view field, std::string_view rest) {
  absl::Status status = InvalidField(field, absl::StrCat(Piece(field), " ", Piece(rest)));
  status.SetPayload(kSubjectUrl, absl::Cord(std::string(field)));
  return status;
}

absl::Status RenameField(const absl::Status& status, std::string_view field) {
  ErrorFacts facts = FactsOf(status);
  facts.field = std::string(field);
  const std::string subject = Payload(status, kSubjectUrl);
  std::string message(status.message());
  if (!subject.empty()) message.replace(0, subject.size(), field);
  absl::Status renamed = WithFacts(absl::Status(status.code(), message), facts);
  if (!subject.empty()) renamed.SetPayload(kSubjectUrl, absl::Cord(facts.field));
  return renamed;
}

absl::Status TooMany(std::string_view field, size_t count, size_t max, std::string_view what) {
  return InvalidValue(
      field, absl::StrCat("has ", count, " ", Piece(what), " but at most ", max, " are allowed."));
}

absl::Status InvalidBody(std::string_view message) {
  return WithFacts(absl::InvalidArgumentError(Cut(message, kMaxMessageBytes)),
                   {.reason = "INVALID_BODY"});
}

absl::Status UnknownModel(std::string_view model, std::span<const std::string> served) {
  constexpr size_t kShown = 4;
  const auto shown = served.first(std::min(served.size(), kShown));
  return WithFacts(
      absl::NotFoundError(absl::StrCat(
          "The model `", Cut(model, kMaxNameBytes), "` does not exist. This server serves `",
          absl::StrJoin(shown, "`, `"), "`", served.size() > kShown ? " and further names." : ".")),
      {.field = "model", .reason = "MODEL_NOT_FOUND"});
}

absl::Status Overloaded(std::string_view message, std::string_view limit) {
  return WithFacts(
      absl::ResourceExhaustedError(Piece(message)),
      {.reason = "SERVER_OVERLOADED", .limit = std::string(limit), .retry_ms = JitteredMs()});
}

absl::Status TooManyTexts() {
  return Overloaded("Too many texts wait to be read; try again in a moment.", "text-queue");
}

absl::Status TooMuchKept(std::string_view instead) {
  return Overloaded(absl::StrCat("The answers that this server collects take too much memory "
                                 "together, and this one most; ",
                                 Piece(instead), ", ask for less, or try again later."),
                    "kept-answers");
}

absl::Status SlowReader() {
  return WithFacts(absl::ResourceExhaustedError(
                       "The reply was not read fast enough and its buffer stayed full; read the "
                       "stream as it comes."),
                   {.reason = "SLOW_READER"});
}

absl::Status ReplyTooLarge(int64_t max_bytes, std::string_view instead) {
  return WithFacts(absl::ResourceExhaustedError(
                       absl::StrCat("The reply exceeds the limit for one message, ", max_bytes,
                                    " bytes (--max-reply-bytes); ", Piece(instead), ".")),
                   {.reason = "REPLY_TOO_LARGE"});
}

absl::Status HttpReplyTooLarge(int64_t max_bytes, std::string_view instead) {
  return WithFacts(absl::OutOfRangeError(absl::StrCat(
                       "The answer exceeds the limit for unstreamed answers, ", max_bytes,
                       " bytes (--max-http-reply-bytes); ", Piece(instead), ".")),
                   {.reason = "REPLY_TOO_LARGE"});
}

absl::Status HttpEchoTooLarge(int64_t max_bytes) {
  return WithFacts(absl::OutOfRangeError(absl::StrCat(
                       "Repeating the prompts for every output exceeds ", max_bytes,
                       " bytes (--max-http-reply-bytes); ask for fewer outputs, send fewer "
                       "prompts, or leave out echo and return_token_ids.")),
                   {.reason = "REPLY_TOO_LARGE"});
}

absl::Status GoingDown() {
  return WithFacts(absl::UnavailableError("The server is going down; try another replica."),
                   {.reason = "DRAINING", .retry_ms = kRetryElsewhereMs});
}

absl::Status DeviceLost() {
  return WithFacts(absl::UnavailableError("The server lost its device; try another replica."),
                   {.reason = "DEVICE_LOST", .retry_ms = kRetryElsewhereMs});
}

absl::Status Incident(std::string_view incident) {
  return WithFacts(absl::InternalError(absl::StrCat(
                       "The server failed this request; its operator finds the cause under ",
                       Piece(incident), ".")),
                   {.reason = "INTERNAL"});
}

}  // namespace baram::server
