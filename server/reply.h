// Reply: one reply on its way, from the engine's tokens to the chunks its sink takes. It
// detokenizes them, finds stop strings and gathers what may not be written yet, bounded.
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

// What must be known of a request to turn its tokens into text.
struct ReplyOptions {
  std::string request_id;  // for the log
  int32_t outputs = 1;
  bool text = true;
  bool tokens = false;  // DeltaEvent::tokens are wanted
  bool skip_special_tokens = true;
  std::vector<std::string> stop;
  bool include_stop = false;      // also keeps the text of a stop id
  std::vector<int32_t> stop_ids;  // as the engine got them
  int32_t min_tokens = 0;         // no stop string matches that ends in the text of so many tokens
};

struct ReplyLimits {
  int64_t pending_bytes = 256 << 10;  // of text, and
  int32_t pending_tokens = 1024;      // tokens of a reply whose write is in flight
  // For sinks that want their client looked after: a write in flight breaks the stream if nothing
  // of it gets out for that long, or if it is not all out after that long plus as long again for
  // each MiB.
  double slow_reader_s = 30;
};

class Delivery;

// A reply in progress; shared by delivery and the front end's stream. A front end keeps the pointer
// as long as it likes.
//
// The sink gets its first chunk after `done` of Serving::Start returned, and then chunk after
// chunk, each after WriteDone. It must live until Write of a chunk with `last` returned false, or
// Break or Over returned.
class Reply : public std::enable_shared_from_this<Reply> {
 public:
  // By Delivery::Open. The references live as long as delivery.
  Reply(Delivery& delivery, const ReplyLimits& limits, const text::Tokenizer& tokenizer,
        ReplyOptions options, std::span<const int32_t> prompt, ReplySink* sink);

  // From any thread: the sink can take the next chunk. The caller need not keep the reply.
  void WriteDone();
  // From inside Write: the chunk is not on its way yet, and its client not slow. From any thread
  // then: now it is.
  void WriteWaits();
  void WriteBegins();
  // From any thread: a part of the write in flight is out, of that many bytes.
  void Progressed(int64_t bytes);
  // From any thread but from inside the sink's methods: the call is over, its last bytes are out or
  // lost. After it returns the sink is never called again.
  void Over();
  // From any thread: the client has gone, or does not want more. The sink still gets its last
  // chunk, whose status is that of `reason`.
  void Cancel(FinishReason reason = FinishReason::kCancelled);

  // After Submit, by whoever opened the reply: its outbox, or null if it was refused. The second
  // makes delivery forget the reply; the sink was and will never be called.
  void Bind(std::shared_ptr<Outbox> outbox);

  // For delivery, on its thread: takes what the outbox has and, if the sink is idle, gives it a
  // chunk.
  void Pump();
  // The same for a reply that Delivery::Ready was told of: from here on it may be told again.
  void PumpReady();
  // Cancels a reply whose client is too slow, see ReplyLimits, and breaks its sink.
  void BreakIfStalled(SteadyTime now);

 private:
  // Text of one output on its way; delivery thread.
  struct Output {
    text::StreamDecoder decoder;
    text::StopMatcher matcher;
    DeltaEvent delta;       // gathered since the last chunk
    int32_t tokens = 0;     // drawn, up to the one that completed a stop string
    bool matched = false;   // a stop string ended it, and its EndEvent was made
    bool finished = false;  // the engine has nothing more for it
  };

  // All on the delivery thread.
  bool HasNews() const;
  bool Full() const;
  void Take(Outbox& outbox);
  void TakePrompt(Outbox& outbox);
  void TakeToken(Outbox& outbox, Output& output, const TokenResult& token);
  // Shows what no stop string may still take back.
  void Feed(Output& output, std::string_view piece);
  void Show(Output& output, std::string text);
  // Shows what waits: for a stop string and, if the text ends there, for the rest of a character.
  void FlushText(Output& output, bool whole);
  void CheckMatch(Outbox& outbox, Output& output);
  void EndOutput(Output& output, const Finish& finish);
  void EndReply(const Outbox& outbox);
  ReplyChunk TakeChunk();
  bool Stalled(SteadyTime now);

  Delivery& delivery_;
  const ReplyLimits& limits_;
  const ReplyOptions options_;

  // Delivery thread only.
  std::vector<Output> outputs_;
  std::optional<PromptEvent> prompt_;
  bool prompt_made_ = false;
  std::vector<EndEvent> ends_;
  std::optional<UsageEvent> usage_;
  absl::Status status_;   // of the first output that ended badly
  int32_t finished_ = 0;  // outputs
  size_t turn_ = 0;       // the output to begin with
  bool watched_ = false;  // the sink wants its client looked after while it writes
  int64_t pending_bytes_ = 0;
  int32_t pending_tokens_ = 0;

  std::mutex mutex_;        // guards what follows; held while the sink is called
  ReplySink* sink_;         // null once it was broken or is done
  bool last_sent_ = false;  // the sink has the last chunk

  std::mutex write_mutex_;    // guards what follows; never held while anything is called
  bool writing_ = true;       // as if a write were in flight until `done` has returned
  SteadyTime write_began_{};  // max: it waits
  SteadyTime write_moved_{};  // when it began, or a part of it was out
  int64_t write_bytes_ = 0;   // of it that are out
  bool queued_ = false;       // Delivery::Ready was told
  std::shared_ptr<Outbox> outbox_;
  std::optional<FinishReason> cancel_;  // asked for before the outbox was known
};

}  // namespace baram::server

#endif  // BARAM_SERVER_REPLY_H_
