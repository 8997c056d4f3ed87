// Outbox: where the engine leaves the tokens of one request, and where its reader says "stop".
//
// The engine writes, one thread (delivery) reads; anybody may cancel or stop. Token rings are
// bounded and never allocate after construction; a full ring pauses its sequence, never the engine.
#ifndef BARAM_ENGINE_OUTBOX_H_
#define BARAM_ENGINE_OUTBOX_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/request.h"
#include "kernels/step.h"

namespace baram {

// Why an output ended, the better ends first. Delivery adds "stop string" by itself through StopAt.
enum class FinishReason : uint8_t {
  kStop,       // an id of Request::stop_ids, in `stop_id`; or StopAt was called
  kLength,     // max_tokens or the context
  kCancelled,  // Cancel()
  kDeadline,
  kDrained,     // the server is going down and the drain limit passed
  kSlowReader,  // its ring stayed full for longest_pause_s
  kFailed,      // see Finish::message
};

struct Finish {
  FinishReason reason = FinishReason::kStop;
  // The stop id that was drawn, or -1. It counts as output and is the last token of the ring, with
  // its log-probability, as vLLM returns it; it has no text.
  int32_t stop_id = -1;
  int32_t tokens = 0;        // drawn in all, the stop id included; usage counts these
  bool unavailable = false;  // kFailed: the device is lost; a retry elsewhere can work
  std::string message{};     // kFailed: one sentence without anybody's content
};

// Timestamps of a request for usage reports and metrics; zero until they happened.
struct Timeline {
  SteadyTime arrival{}, admitted{}, first_token{}, finished{};
};

// Wakes the thread that waits on it. Shared by an owner and everybody who may wake it.
class Wakeup {
 public:
  void Notify();
  // Until notified since the last return, or `deadline`.
  void WaitUntil(SteadyTime deadline);

  // Set before Notify when a request was cancelled or stopped: its waiter then looks at every
  // request, which it does not do on each turn.
  std::atomic<bool> look_at_all{false};

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool notified_ = false;
};

class Outbox {
 public:
  // A ring of at most `ring_tokens` per output, and room for all prompt scores the request asks
  // for.
  Outbox(const Request& request, int32_t ring_tokens, std::shared_ptr<Wakeup> engine);
  ~Outbox();

  // --- reader's side
  int32_t outputs() const;
  // The next token of output `index`, or false if none is ready. TokenResult::token is the drawn
  // id.
  bool Pop(int32_t index, TokenResult* token);
  // The next prompt score (position 1, 2, ... of the prompt), or false.
  bool PopPromptScore(TokenResult* score);
  // True once the output is finished and its ring is empty; then `finish` is set.
  // Exactly one finish per output is ever published (I5).
  bool Finished(int32_t index, Finish* finish) const;
  int32_t prompt_tokens() const;
  // Prompt tokens whose pages were found in the prefix cache at first admission; -1 before it.
  int32_t cached_tokens() const;
  Timeline timeline() const;

  // From any thread. Ends every output with kCancelled (or `reason`) within one step.
  void Cancel(FinishReason reason = FinishReason::kCancelled);
  // Ends output `index` with kStop: its reader found a stop string and needs no more tokens. Tokens
  // drawn later are dropped.
  void StopAt(int32_t index);

  // True while the outbox is in the touched list. Kept by TouchedList, under its lock.
  bool listed = false;
  // The reader's object this outbox feeds; set before Submit, never read by the engine.
  void* reader = nullptr;

  // --- engine's side
  int32_t ring_tokens(int32_t index) const;  // that fit in all
  // Tokens that still fit into the ring of output `index`.
  int32_t Room(int32_t index) const;
  // Asks for one wake-up of the engine once the ring of `index` is at least half empty. Look at
  // Room again afterwards: the reader may have drained it just before.
  void WakeWhenDrained(int32_t index);
  void Push(int32_t index, const TokenResult& token);
  void PushPromptScore(const TokenResult& score);
  void Publish(int32_t index, Finish finish);
  void SetCached(int32_t tokens);
  void SetAdmitted(SteadyTime when);
  void SetFirstToken(SteadyTime when);
  void SetFinished(SteadyTime when);  // before the last Publish
  bool cancelled(FinishReason* reason) const;
  bool stopped(int32_t index) const;

 private:
  struct Output;
  std::vector<std::unique_ptr<Output>> outputs_;
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

// The outboxes that changed since the reader last looked: the engine adds them once a step under
// one lock, the reader takes them all.
class TouchedList {
 public:
  void Add(std::vector<std::shared_ptr<Outbox>>& touched);  // empties `touched`, keeps its capacity
  // Moves all into `taken` (cleared first). Blocks until there are some or Close() was called or
  // `deadline` passed; false once closed and empty.
  bool Take(std::vector<std::shared_ptr<Outbox>>* taken, SteadyTime deadline);
  // Wakes Take without an outbox: the reader has work of its own.
  void Nudge();
  void Close();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Outbox>> list_;
  bool nudged_ = false;
  bool closed_ = false;
};

}  // namespace baram

#endif  // BARAM_ENGINE_OUTBOX_H_
