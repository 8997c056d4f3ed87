// Wakeup: wakes one sleeping thread.
#ifndef BARAM_ENGINE_WAKEUP_H_
#define BARAM_ENGINE_WAKEUP_H_

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "engine/steady_time.h"

namespace baram {

// Wakes the thread that waits on it. Shared by its owner and all threads that may wake it.
class Wakeup {
 public:
  void Notify();
  // Notifies that an output is to end: the waiter then checks every request, which it does not do
  // in every turn.
  void NotifyOfEndRequest();
  // Whether that was called since this was last called.
  bool TakeEndRequests();
  // Returns once notified since the last return, or at `deadline`.
  void WaitUntil(SteadyTime deadline);

 private:
  std::atomic<bool> has_end_requests_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool notified_ = false;
};

}  // namespace baram

#endif  // BARAM_ENGINE_WAKEUP_H_
