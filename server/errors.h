// Client-visible errors: a code, one sentence, and machine-readable facts.
//
// A front end turns the facts into its wire form: gRPC into google.rpc details, HTTP into `param`
// and `Retry-After`. They travel as payloads of the absl::Status, so that nothing between serving
// and the wire needs to know about them.
#ifndef BARAM_SERVER_ERRORS_H_
#define BARAM_SERVER_ERRORS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace baram::server {

struct ErrorFacts {
  std::string field = {};   // the request field at fault, by its native path, "sampling.top_p"
  std::string reason = {};  // one upper-case word, "SERVER_OVERLOADED"
  std::string limit = {};   // the setting that caused `reason`; for the operator only
  int64_t retry_ms = -1;    // a retry after this delay can succeed; -1: a retry is useless
};

// The reason for a refused connection, which has no status.
inline constexpr char kTooManyConnections[] = "TOO_MANY_CONNECTIONS";
// The reason for a failed accept, or for a connection that was accepted and could not be kept: this
// process or the system has run out of descriptors.
inline constexpr char kNoDescriptors[] = "OUT_OF_DESCRIPTORS";

// Empty facts for a status that carries none.
ErrorFacts FactsOf(const absl::Status& status);
absl::Status WithFacts(absl::Status status, const ErrorFacts& facts);

// INVALID_ARGUMENT that names its field. A sentence of more than 1 KiB, which quotes a client or a
// template, is truncated.
absl::Status InvalidField(std::string_view field, std::string_view message);
// InvalidField whose sentence is the field's name followed by `rest`: "sampling.top_p", "is 3 but
// must be at most 1."
absl::Status InvalidValue(std::string_view field, std::string_view rest);
// The error with the field renamed to a front end's name for it, also in the sentence if
// InvalidValue made it.
absl::Status RenameField(const absl::Status& status, std::string_view field);
// InvalidValue for a list or a text that is too large: "stop has 17 strings but at most 16 are
// allowed."
absl::Status TooMany(std::string_view field, size_t count, size_t max, std::string_view what);
// INVALID_ARGUMENT, reason INVALID_BODY: no field can be read, or the content type is not
// supported.
absl::Status InvalidBody(std::string_view message);
// NOT_FOUND, reason MODEL_NOT_FOUND; the sentence says what is served instead.
absl::Status UnknownModel(std::string_view model, std::span<const std::string> served);
// RESOURCE_EXHAUSTED, reason SERVER_OVERLOADED, with a jittered retry delay that spreads clients
// out. `limit` is one of kLimits.
absl::Status Overloaded(std::string_view message, std::string_view limit);
// The limits that a server can reach, by their flags if they have one.
inline constexpr const char* kLimits[] = {"max-queued-requests", "max-queued-tokens", "text-queue",
                                          "kept-answers"};
// Overloaded, because too many texts wait to be parsed, rendered or tokenized.
absl::Status TooManyTexts();
// Overloaded, because of what all answers keep until they can be sent (see KeptAnswers). `instead`:
// what the client may do, as in "set stream to true".
absl::Status TooMuchKept(std::string_view instead);
// RESOURCE_EXHAUSTED, reason SLOW_READER; never worth a retry.
absl::Status SlowReader();
// RESOURCE_EXHAUSTED, reason REPLY_TOO_LARGE: a single-message reply outgrew the setting.
// `instead`: what the client may do, as in "ask for less".
absl::Status ReplyTooLarge(int64_t max_bytes, std::string_view instead);
// OUT_OF_RANGE, the same for an HTTP answer that is not streamed.
absl::Status HttpReplyTooLarge(int64_t max_bytes, std::string_view instead);
// OUT_OF_RANGE, the same for the prompts that a stream shows.
absl::Status HttpEchoTooLarge(int64_t max_bytes);
// UNAVAILABLE: another replica, or this one a little later, can serve the call.
absl::Status GoingDown();
absl::Status DeviceLost();
// INTERNAL with an incident id that the log line repeats; the sentence does not reveal the cause.
absl::Status Incident(std::string_view incident);

}  // namespace baram::server

#endif  // BARAM_SERVER_ERRORS_H_
