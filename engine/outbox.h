// Outbox: passes the tokens of one request from the engine to its reader, and a request to stop
// back.
//
// The engine writes, one thread (delivery) reads; any thread may cancel or stop. Token rings are
// bounded and never allocate after construction; a full ring pauses its sequence, never the engine.
#ifndef BARAM_ENGINE_OUTBOX_H_
#define BARAM_ENGINE_OUTBOX_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/finish.h"
#include "engine/request.h"
#include "engine/steady_time.h"
#include "engine/wakeup.h"
#include "kernels/step.h"

namespace baram {

// Timestamps of a request for usage reports and metrics; zero until the event.
struct Timeline {
  SteadyTime arrival{}, admitted{}, first_token{}, finished{};
};

class Outbox {
 public:
  // A ring of at most `ring_tokens` per output, and room for all prompt scores that the request
  // asks for.
  Outbox(const Request& request, int32_t ring_tokens, std::shared_ptr<Wakeup> engine);
  ~Outbox();

  // --- reader
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

  // True while the outbox is in the touched list. Maintained by TouchedList, under its lock.
  bool listed = false;

  // --- engine
  int32_t ring_tokens() const;  // the capacity of each output's ring
  // Tokens that still fit into the ring of output `index`.
  int32_t Room(int32_t index) const;
  // Requests one wake-up of the engine once the ring of `index` is at least half empty. Check Room
  // again afterwards: the reader may have drained it just before.
  void WakeWhenDrained(int32_t index);
  void Push(int32_t index, const TokenResult& token);
  void PushPromptScore(const TokenResult& score);
  void SetFinish(int32_t index, Finish finish);
  void SetCached(int32_t tokens);
  void SetAdmitted(SteadyTime when);
  void SetFirstToken(SteadyTime when);
  void SetFinished(SteadyTime when);  // before the last SetFinish
  // Whether Cancel or StopAt was called since this was last called. If so, what they set is
  // visible.
  bool TakeEndRequest();
  std::optional<FinishReason> cancelled() const;
  bool stopped(int32_t index) const;

 private:
  void RequestEnd();

  struct Output;
  std::vector<std::unique_ptr<Output>> outputs_;
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_OUTBOX_H_
