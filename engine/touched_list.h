// TouchedList: the outboxes that changed, from the engine to the delivery thread.
#ifndef BARAM_ENGINE_TOUCHED_LIST_H_
#define BARAM_ENGINE_TOUCHED_LIST_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/outbox.h"
#include "engine/steady_time.h"

namespace baram {

// The outboxes that changed since the reader last took them. The engine adds them once per step
// under one lock, the reader takes all of them.
class TouchedList {
 public:
  void Add(std::vector<std::shared_ptr<Outbox>>& touched);  // empties `touched`, keeps its capacity
  // Moves all into `taken` (cleared first). Blocks until there are some, Nudge() was called, or
  // `deadline` has passed.
  void Take(std::vector<std::shared_ptr<Outbox>>* taken, SteadyTime deadline);
  // Wakes Take without an outbox: the reader has work of its own.
  void Nudge();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Outbox>> list_;
  bool nudged_ = false;
};

}  // namespace baram

#endif  // BARAM_ENGINE_TOUCHED_LIST_H_
