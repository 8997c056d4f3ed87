// Wakeup: wakes one thread that sleeps.
#ifndef BARAM_ENGINE_WAKEUP_H_
#define BARAM_ENGINE_WAKEUP_H_

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "engine/steady_time.h"

namespace baram {

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

}  // namespace baram

#endif  // BARAM_ENGINE_WAKEUP_H_
