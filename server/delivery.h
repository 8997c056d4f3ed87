// Delivery: the single thread that advances replies (reply.h), and the list of those that have work
// to do. It never blocks on a client: while a sink's write is in flight, text accumulates in its
// reply, up to a bound; past the bound tokens stay in the outbox's ring, and the engine pauses that
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

// Owns the delivery thread, and every reply until it ends.
class Delivery {
 public:
  // `touched` is the engine's; it and `tokenizer` must outlive this.
  Delivery(TouchedList& touched, const text::Tokenizer& tokenizer, ReplyLimits limits);
  // Joins the thread. Replies that have not ended are dropped, so end them first.
  ~Delivery();
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  // The reply that reads `outbox`, from the first WriteDone on at the latest. Its text continues
  // after `prompt`, which is not kept.
  std::shared_ptr<Reply> Open(ReplyOptions options, std::span<const int32_t> prompt,
                              std::shared_ptr<Outbox> outbox, ReplySink* sink);
  // Whether every reply has ended, and all that its sink wrote is sent or lost.
  bool idle() const;

 private:
  friend class Reply;  // calls Ready and Forget

  void Loop();
  void BreakStalled(SteadyTime now);
  std::shared_ptr<Reply> Find(const Outbox& outbox) const;
  // Thread-safe: pumps the reply soon.
  void Ready(std::shared_ptr<Reply> reply);
  // Thread-safe: the reply that reads `outbox` has ended.
  void Forget(const Outbox& outbox);

  TouchedList& touched_;
  const text::Tokenizer& tokenizer_;
  const ReplyLimits limits_;

  mutable std::mutex mutex_;                                         // guards what follows
  absl::flat_hash_map<const Outbox*, std::shared_ptr<Reply>> live_;  // by what they read
  std::vector<std::shared_ptr<Reply>> ready_;                        // their WriteDone was called
  bool closing_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace baram::server

#endif  // BARAM_SERVER_DELIVERY_H_
