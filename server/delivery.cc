// Delivery: decides which reply is pumped when.
#include "server/delivery.h"

#include <pthread.h>

#include <chrono>
#include <utility>

namespace baram::server {

Delivery::Delivery(TouchedList& touched, const text::Tokenizer& tokenizer, ReplyLimits limits)
    : touched_(touched), tokenizer_(tokenizer), limits_(limits), thread_([this] { Loop(); }) {}

Delivery::~Delivery() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  touched_.Nudge();
  thread_.join();
}

std::shared_ptr<Reply> Delivery::Open(ReplyOptions options, std::span<const int32_t> prompt,
                                      std::shared_ptr<Outbox> outbox, ReplySink* sink) {
  const Outbox* key = outbox.get();
  auto reply = std::make_shared<Reply>(*this, limits_, tokenizer_, std::move(options), prompt,
                                       std::move(outbox), sink);
  std::lock_guard lock(mutex_);
  live_.emplace(key, reply);
  return reply;
}

bool Delivery::idle() const {
  std::lock_guard lock(mutex_);
  return live_.empty();
}

std::shared_ptr<Reply> Delivery::Find(const Outbox& outbox) const {
  std::lock_guard lock(mutex_);
  const auto found = live_.find(&outbox);
  return found == live_.end() ? nullptr : found->second;
}

void Delivery::Forget(const Outbox& outbox) {
  std::shared_ptr<Reply> last;  // released outside the lock
  std::lock_guard lock(mutex_);
  const auto found = live_.find(&outbox);
  if (found == live_.end()) return;
  last = std::move(found->second);
  live_.erase(found);
}

void Delivery::Ready(std::shared_ptr<Reply> reply) {
  bool first;
  {
    std::lock_guard lock(mutex_);
    first = ready_.empty();
    ready_.push_back(std::move(reply));
  }
  if (first) touched_.Nudge();
}

void Delivery::Loop() {
  pthread_setname_np(pthread_self(), "baram-delivery");
  using std::chrono::steady_clock;
  constexpr auto kLook = std::chrono::seconds(1);  // how often stalled writes are checked
  std::vector<std::shared_ptr<Outbox>> touched;
  std::vector<std::shared_ptr<Reply>> ready;
  SteadyTime next_look = steady_clock::now() + kLook;
  while (true) {
    touched_.Take(&touched, next_look);
    {
      std::lock_guard lock(mutex_);
      if (closing_) return;
      ready.swap(ready_);
    }
    // An outbox may be touched before its reply is opened, which WriteDone makes up for, and once
    // more after it has ended.
    for (const auto& outbox : touched) {
      if (const auto reply = Find(*outbox)) reply->Pump();
    }
    for (const auto& reply : ready) reply->PumpReady();
    ready.clear();
    if (const SteadyTime now = steady_clock::now(); now >= next_look) {
      BreakStalled(now);
      next_look = now + kLook;
    }
  }
}

void Delivery::BreakStalled(SteadyTime now) {
  std::vector<std::shared_ptr<Reply>> replies;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, reply] : live_) replies.push_back(reply);
  }
  for (const auto& reply : replies) reply->BreakIfStalled(now);
}

}  // namespace baram::server
