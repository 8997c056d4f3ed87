// Reply: a reply in progress, from the engine's tokens to the chunks that its sink takes. It
// detokenizes, finds stop strings and accumulates, up to a bound, what may not be written yet.
#ifndef BARAM_SERVER_REPLY_H_
#define BARAM_SERVER_REPLY_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/outbox.h"
#include "engine/steady_time.h"
#include "server/reply_events.h"
#include "server/text/stop_matcher.h"
#include "server/text/tokenizer.h"

namespace baram::server {

// What turning a request's tokens into text requires.
struct ReplyOptions {
  std::string request_id;  // for the log
  int32_t outputs = 1;
  bool text = true;
  bool tokens = false;  // whether DeltaEvent::tokens is filled
  bool skip_special_tokens = true;
  std::vector<std::string> stop;
  bool include_stop = false;      // also keeps the text of a stop id
  std::vector<int32_t> stop_ids;  // as passed to the engine
  int32_t min_tokens = 0;         // a stop string may match only after this many tokens
};

struct ReplyLimits {
  int64_t pending_bytes = 256 << 10;  // limit of text, and
  int32_t pending_tokens = 1024;      // of tokens, held while a write is in flight
  // For sinks that return true from Write: a write in flight breaks the stream if, as far as can be
  // seen, no byte of it is sent for this long, or if it is not completely sent after this long plus
  // as long again for each MiB.
  double slow_reader_s = 30;
};

class Delivery;

// A reply in progress; shared by delivery and the front end's stream. A front end may keep the
// pointer as long as it likes.
//
// The sink gets its first chunk after `done` of Serving::Start has returned, and each further one
// after WriteDone. It must live until Write of a chunk with `last` has returned false, or Break or
// Over has returned.
class Reply : public std::enable_shared_from_this<Reply> {
 public:
  // Called by Delivery::Open. The references must outlive delivery.
  Reply(Delivery& delivery, const ReplyLimits& limits, const text::Tokenizer& tokenizer,
        ReplyOptions options, std::span<const int32_t> prompt, std::shared_ptr<Outbox> outbox,
        ReplySink* sink);

  // Thread-safe: the sink can take the next chunk. The caller need not keep the reply alive.
  void WriteDone();
  // WriteWaits, from inside Write: the chunk is not being sent yet, so its client is not slow.
  // WriteBegins, from any thread, afterwards: now it is. Of `unseen_bytes` of it, nobody can report
  // progress: if there are any, only its total time is limited.
  void WriteWaits();
  void WriteBegins(int64_t unseen_bytes = 0);
  // Thread-safe: this many more bytes of the write in flight were sent.
  void Progressed(int64_t bytes);
  // From any thread, but not from inside the sink's methods: the call is over, its last bytes are
  // sent or lost. After it returns the sink is never called again.
  void Over();
  // Thread-safe: the client has gone, or wants no more. The sink still gets its last chunk, with
  // the status of `reason`.
  void Cancel(FinishReason reason = FinishReason::kCancelled);

  // Delivery thread: takes what the outbox has and, if the sink is idle, gives it a chunk.
  void Pump();
  // The same for a reply passed to Delivery::Ready: from here on it may be passed again.
  void PumpReady();
  // Cancels a reply whose client is too slow (see ReplyLimits), and breaks its sink.
  void BreakIfStalled(SteadyTime now);

 private:
  // Text of one output in progress; delivery thread.
  struct Output {
    text::StreamDecoder decoder;
    text::StopMatcher matcher;
    DeltaEvent delta;       // accumulated since the last chunk
    int32_t tokens = 0;     // generated, up to the one that completed a stop string
    bool matched = false;   // a stop string ended it, and its EndEvent exists
    bool finished = false;  // the engine has nothing more for it
  };

  // All on the delivery thread.
  bool HasNews() const;
  bool Full() const;
  void Take();
  void TakePrompt();
  void TakeToken(Output& output, const TokenResult& token);
  // Shows what can no longer be part of a stop string.
  void Feed(Output& output, std::string_view piece);
  void Show(Output& output, std::string text);
  // Shows text held back for a stop string and, if `whole`, for the rest of a character.
  void FlushText(Output& output, bool whole);
  void CheckMatch(Output& output);
  void EndOutput(Output& output, const Finish& finish);
  UsageEvent Usage() const;  // so far
  ReplyChunk TakeChunk();
  bool Stalled(SteadyTime now);

  Delivery& delivery_;
  const ReplyLimits& limits_;
  const ReplyOptions options_;
  const std::shared_ptr<Outbox> outbox_;

  // Used only on the delivery thread.
  std::vector<Output> outputs_;
  std::optional<PromptEvent> prompt_;
  bool prompt_made_ = false;
  std::vector<EndEvent> ends_;
  std::optional<UsageEvent> usage_;
  absl::Status status_;   // of the first output that ended badly
  int32_t finished_ = 0;  // outputs
  size_t turn_ = 0;       // the output to start with
  bool watched_ = false;  // the sink returned true from the last Write
  int64_t pending_bytes_ = 0;
  int32_t pending_tokens_ = 0;

  std::mutex mutex_;        // guards what follows; held while the sink is called
  ReplySink* sink_;         // null once it was broken or is finished
  bool last_sent_ = false;  // the sink has the last chunk

  std::mutex write_mutex_;    // guards what follows; never held during a call to other code
  bool writing_ = true;       // as if a write were in flight until `done` has returned
  SteadyTime write_began_{};  // max: not begun
  SteadyTime write_moved_{};  // when it began, or was last partly sent; max: unseen
  int64_t write_bytes_ = 0;   // bytes of it that were sent so far, or are unseen
  bool queued_ = false;       // passed to Delivery::Ready
};

}  // namespace baram::server

#endif  // BARAM_SERVER_REPLY_H_
