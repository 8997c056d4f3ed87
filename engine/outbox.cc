// Outbox: single-producer, single-consumer rings.
#include "engine/outbox.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "kernels/check.h"

namespace baram {
namespace {

// Tokens with their log-probabilities in fixed places, and `top` alternatives each: most requests
// ask for none, while a TokenResult has room for kMaxTopLogprobs.
class TokenStore {
 public:
  TokenStore(int64_t capacity, int32_t logprobs)
      : top_(Top(logprobs)),
        entries_(capacity),
        ids_(capacity * top_),
        logprobs_(capacity * top_) {}

  static int64_t EntryBytes(int32_t logprobs) {
    return sizeof(Entry) + Top(logprobs) * (sizeof(int32_t) + sizeof(float));
  }
  int64_t capacity() const { return static_cast<int64_t>(entries_.size()); }

  void Put(int64_t at, const TokenResult& token) {
    const int32_t count = std::min(token.top_count, top_);
    entries_[at] = {token.token, token.flags, token.rank, token.logprob, count};
    std::copy_n(token.top_ids, count, ids_.begin() + at * top_);
    std::copy_n(token.top_logprobs, count, logprobs_.begin() + at * top_);
  }

  void Get(int64_t at, TokenResult* token) const {
    const Entry& entry = entries_[at];
    token->token = entry.token;
    token->flags = entry.flags;
    token->rank = entry.rank;
    token->logprob = entry.logprob;
    token->top_count = entry.top_count;
    std::copy_n(ids_.begin() + at * top_, entry.top_count, token->top_ids);
    std::copy_n(logprobs_.begin() + at * top_, entry.top_count, token->top_logprobs);
  }

 private:
  struct Entry {
    int32_t token;
    uint32_t flags;
    int32_t rank;
    float logprob;
    int32_t top_count;
  };
  static int32_t Top(int32_t logprobs) { return std::clamp(logprobs, 0, kMaxTopLogprobs); }

  int32_t top_;
  std::vector<Entry> entries_;
  std::vector<int32_t> ids_;     // [capacity, top]
  std::vector<float> logprobs_;  // [capacity, top]
};

// Limit of all of a request's rings together: a queue full of requests for many outputs with many
// log-probabilities stays within hundreds of megabytes.
constexpr int64_t kRingBytes = 256 << 10;

// At least two places: a step in flight and the next one may both draw.
int64_t RingCapacity(const Request& request, int32_t ring_tokens) {
  const int64_t entry_bytes = TokenStore::EntryBytes(request.sampling.logprobs);
  const int64_t fits = kRingBytes / (entry_bytes * std::max(1, request.n));
  return std::max<int64_t>(2, std::min({int64_t{ring_tokens}, int64_t{request.max_tokens}, fits}));
}

int64_t ScoreCapacity(const Request& request) {
  return request.prompt_logprobs < 0 ? 0 : std::max<int64_t>(0, std::ssize(request.prompt) - 1);
}

}  // namespace

struct Outbox::Output {
  Output(int64_t capacity, int32_t logprobs) : ring(capacity, logprobs) {}

  TokenStore ring;
  std::atomic<int64_t> written{0};  // by the engine
  std::atomic<int64_t> read{0};     // by the reader
  std::atomic<bool> wake_when_drained{false};
  std::atomic<bool> stopped{false};
  Finish finish;  // constant once `finished`
  std::atomic<bool> finished{false};
};

struct Outbox::Shared {
  Shared(const Request& request, std::shared_ptr<Wakeup> wakeup)
      : engine(std::move(wakeup)),
        prompt_tokens(static_cast<int32_t>(request.prompt.size())),
        scores(ScoreCapacity(request), request.prompt_logprobs) {}

  std::shared_ptr<Wakeup> engine;
  const int32_t prompt_tokens;
  TokenStore scores;
  std::atomic<int64_t> scores_written{0};
  int64_t scores_read = 0;          // used by the reader only
  std::atomic<int32_t> cancel{-1};  // a FinishReason, or -1
  // Set after `cancel` or `stopped`, and before Wakeup::NotifyOfEndRequest: a thread that learns of
  // the request there sees it here.
  std::atomic<bool> end_requested{false};
  std::atomic<int32_t> cached{-1};
  std::atomic<int64_t> arrival{0}, admitted{0}, first_token{0}, finished{0};  // SteadyTime ticks
};

Outbox::Outbox(const Request& request, int32_t ring_tokens, std::shared_ptr<Wakeup> engine)
    : shared_(std::make_unique<Shared>(request, std::move(engine))) {
  shared_->arrival = Ticks(request.arrival);
  for (int32_t i = 0; i < request.n; ++i) {
    outputs_.push_back(
        std::make_unique<Output>(RingCapacity(request, ring_tokens), request.sampling.logprobs));
  }
}

Outbox::~Outbox() = default;

int32_t Outbox::outputs() const { return static_cast<int32_t>(outputs_.size()); }

bool Outbox::Pop(int32_t index, TokenResult* token) {
  Output& output = *outputs_[index];
  const int64_t read = output.read.load(std::memory_order_relaxed);
  if (read == output.written.load(std::memory_order_acquire)) return false;
  output.ring.Get(read % output.ring.capacity(), token);
  // Sequentially consistent with WakeWhenDrained followed by Room: one of the two sides sees the
  // other's store.
  output.read.store(read + 1, std::memory_order_seq_cst);
  if (output.wake_when_drained.load(std::memory_order_seq_cst) &&
      Room(index) * 2 >= output.ring.capacity() && output.wake_when_drained.exchange(false)) {
    shared_->engine->Notify();
  }
  return true;
}

bool Outbox::PopPromptScore(TokenResult* score) {
  if (shared_->scores_read == shared_->scores_written.load(std::memory_order_acquire)) return false;
  shared_->scores.Get(shared_->scores_read++, score);
  return true;
}

bool Outbox::Finished(int32_t index, Finish* finish) const {
  const Output& output = *outputs_[index];
  if (!output.finished.load(std::memory_order_acquire)) return false;
  if (output.read.load(std::memory_order_relaxed) !=
      output.written.load(std::memory_order_acquire)) {
    return false;
  }
  *finish = output.finish;
  return true;
}

int32_t Outbox::prompt_tokens() const { return shared_->prompt_tokens; }
int32_t Outbox::cached_tokens() const { return shared_->cached.load(); }

Timeline Outbox::timeline() const {
  return {.arrival = FromTicks(shared_->arrival.load()),
          .admitted = FromTicks(shared_->admitted.load()),
          .first_token = FromTicks(shared_->first_token.load()),
          .finished = FromTicks(shared_->finished.load())};
}

void Outbox::Cancel(FinishReason reason) {
  int32_t none = -1;
  if (!shared_->cancel.compare_exchange_strong(none, static_cast<int32_t>(reason))) return;
  RequestEnd();
}

void Outbox::StopAt(int32_t index) {
  if (outputs_[index]->stopped.exchange(true)) return;
  RequestEnd();
}

void Outbox::RequestEnd() {
  shared_->end_requested.store(true);
  shared_->engine->NotifyOfEndRequest();
}

int32_t Outbox::ring_tokens() const {
  return static_cast<int32_t>(outputs_.front()->ring.capacity());
}

int32_t Outbox::Room(int32_t index) const {
  const Output& output = *outputs_[index];
  return static_cast<int32_t>(output.ring.capacity() -
                              (output.written.load() - output.read.load()));
}

void Outbox::WakeWhenDrained(int32_t index) {
  outputs_[index]->wake_when_drained.store(true, std::memory_order_seq_cst);
}

void Outbox::Push(int32_t index, const TokenResult& token) {
  Output& output = *outputs_[index];
  Check(Room(index) > 0, "a token is drawn only when its ring has room");
  const int64_t written = output.written.load(std::memory_order_relaxed);
  output.ring.Put(written % output.ring.capacity(), token);
  output.written.store(written + 1, std::memory_order_release);
}

void Outbox::PushPromptScore(const TokenResult& score) {
  const int64_t written = shared_->scores_written.load(std::memory_order_relaxed);
  Check(written < shared_->scores.capacity(), "a prompt position is scored once");
  shared_->scores.Put(written, score);
  shared_->scores_written.store(written + 1, std::memory_order_release);
}

void Outbox::SetFinish(int32_t index, Finish finish) {
  Output& output = *outputs_[index];
  Check(!output.finished.load(), "an output ends once (I5)");
  output.finish = std::move(finish);
  output.finished.store(true, std::memory_order_release);
}

void Outbox::SetCached(int32_t tokens) { shared_->cached.store(tokens); }
void Outbox::SetAdmitted(SteadyTime when) { shared_->admitted.store(Ticks(when)); }
void Outbox::SetFirstToken(SteadyTime when) { shared_->first_token.store(Ticks(when)); }
void Outbox::SetFinished(SteadyTime when) { shared_->finished.store(Ticks(when)); }

// Loads before it exchanges: most outboxes have nothing to end, and their cache line is then not
// written.
bool Outbox::TakeEndRequest() {
  return shared_->end_requested.load() && shared_->end_requested.exchange(false);
}

std::optional<FinishReason> Outbox::cancelled() const {
  const int32_t cancel = shared_->cancel.load();
  if (cancel < 0) return std::nullopt;
  return static_cast<FinishReason>(cancel);
}

bool Outbox::stopped(int32_t index) const { return outputs_[index]->stopped.load(); }

}  // namespace baram
