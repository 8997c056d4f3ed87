// Delivery: the one thread that advances replies, see reply.h, and the list of those that have
// something to do. It never blocks on a client: while a sink's write is in flight, text piles up in
// its reply, bounded; past the bound tokens stay in the outbox's ring, and the engine pauses that
// sequence. A slow client costs only itself.
#ifndef BARAM_SERVER_DELIVERY_H_
#define BARAM_SERVER_DELIVERY_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/steady_time.h"
#include "engine/touched_list.h"
#include "server/reply.h"
#include "server/text/tokenizer.h"

namespace baram::server {

// Owns the delivery thread, and every reply until its end.
class Delivery {
 public:
  // `touched` is the engine's; it and the tokenizer must outlive this.
  Delivery(TouchedList& touched, const text::Tokenizer& tokenizer, ReplyLimits limits);
  // Joins the thread. Replies that are not over are dropped, so end them first.
  ~Delivery();
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  // Before Submit: its result is the outbox's reader, and is told by Reply::Bind what came of it.
  // The text goes on after `prompt`, which is not kept.
  std::shared_ptr<Reply> Open(ReplyOptions options, std::span<const int32_t> prompt,
                              ReplySink* sink);
  // Whether every reply has ended, and what its sink wrote is out or lost.
  bool idle() const;

 private:
  friend class Reply;  // calls Ready and Forget

  void Loop();
  void BreakStalled(SteadyTime now);
  std::shared_ptr<Reply> Find(const void* reader) const;
  // From any thread: pumps the reply soon.
  void Ready(std::shared_ptr<Reply> reply);
  // From any thread: the reply has ended.
  void Forget(const Reply* reply);

  TouchedList& touched_;
  const text::Tokenizer& tokenizer_;
  const ReplyLimits limits_;

  mutable std::mutex mutex_;  // guards what follows
  absl::flat_hash_map<const Reply*, std::shared_ptr<Reply>> live_;
  std::vector<std::shared_ptr<Reply>> ready_;  // their WriteDone came
  bool closing_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace baram::server

#endif  // BARAM_SERVER_DELIVERY_H_
