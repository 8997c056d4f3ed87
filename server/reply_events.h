// The events that make up a reply, in native types, and the front-end sink that takes them. No wire
// format here.
#ifndef BARAM_SERVER_REPLY_EVENTS_H_
#define BARAM_SERVER_REPLY_EVENTS_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/outbox.h"

namespace baram::server {

struct PromptEvent {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  std::vector<TokenResult> scores;  // of prompt tokens 1, 2, ...; if requested
};

// New text and tokens of one output. A token may come before the text it completes, in which case
// the text may be empty. The text consists of whole characters. A stop id that ended the output is
// among the tokens, but its text is not, unless requested.
struct DeltaEvent {
  int32_t index = 0;
  std::string text;
  int32_t count = 0;                // tokens generated since the previous one
  std::vector<TokenResult> tokens;  // the same tokens, if Call requested ids or log-probabilities
};

// From the best end to the worst.
enum class EndReason : uint8_t { kStop, kLength, kAbort };

// The spelling in OpenAI's finish_reason, logs and metrics.
inline const char* NameOf(EndReason reason) {
  switch (reason) {
    case EndReason::kStop:
      return "stop";
    case EndReason::kLength:
      return "length";
    case EndReason::kAbort:
      return "abort";
  }
  return "";
}

struct EndEvent {
  int32_t index = 0;
  EndReason reason = EndReason::kStop;
  std::optional<std::string> stop_string;  // the one that matched
  int32_t stop_id = -1;                    // the id that ended it, EOS included
};

struct UsageEvent {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  int32_t completion_tokens = 0;
  double queued_s = 0;
  double first_token_s = 0;
  double total_s = 0;
};

// Everything accumulated while the last write was in flight, in order: prompt, deltas, ends, usage,
// status.
struct ReplyChunk {
  std::optional<PromptEvent> prompt;
  std::vector<DeltaEvent> deltas;  // at most one per output
  std::vector<EndEvent> ends;
  std::optional<UsageEvent> usage;  // with the last chunk, even before an error status
  bool last = false;                // then `status` is the call's status
  absl::Status status;
};

// The reason of a call with several outputs: the worst.
inline void NoteEnds(const std::vector<EndEvent>& ends, std::optional<EndReason>* worst) {
  for (const EndEvent& end : ends) *worst = std::max(worst->value_or(end.reason), end.reason);
}

// A front end's stream, or its single answer: for gRPC's two calls, and for a prompt over HTTP.
// Both methods are called only on the delivery thread, and must not block. See reply.h for the life
// of a reply.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  // Not called again before the sink has called Reply::WriteDone (from any thread, even from inside
  // Write), nor after a chunk with `last`. Returns whether delivery must watch the client until the
  // chunk is sent, and may call Break until then. WriteDone reports that a chunk was sent; for the
  // last one Reply::Over does. A sink returns false if it limits bytes in flight itself, or sends
  // none.
  virtual bool Write(ReplyChunk chunk) = 0;
  // The client was too slow with a chunk that delivery watched (see ReplyLimits), and the reply has
  // been cancelled: break the connection. Nothing is called after this; `status` is for the log, or
  // for a client that reads on, `so_far` for the log.
  virtual void Break(absl::Status status, const UsageEvent& so_far) = 0;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_REPLY_EVENTS_H_
