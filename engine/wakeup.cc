// Wakeup: a flag under a lock.
#include "engine/wakeup.h"

namespace baram {

void Wakeup::Notify() {
  {
    std::lock_guard lock(mutex_);
    notified_ = true;
  }
  changed_.notify_one();
}

void Wakeup::NotifyOfEndRequest() {
  has_end_requests_.store(true);
  Notify();
}

bool Wakeup::TakeEndRequests() { return has_end_requests_.exchange(false); }

void Wakeup::WaitUntil(SteadyTime deadline) {
  std::unique_lock lock(mutex_);
  // wait_until overflows where it converts the largest time to another clock.
  if (deadline == SteadyTime::max()) {
    changed_.wait(lock, [this] { return notified_; });
  } else {
    changed_.wait_until(lock, deadline, [this] { return notified_; });
  }
  notified_ = false;
}

}  // namespace baram
