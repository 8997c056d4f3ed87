// TouchedList: one lock per step.
#include "engine/touched_list.h"

#include <utility>

namespace baram {

void TouchedList::Add(std::vector<std::shared_ptr<Outbox>>& touched) {
  if (touched.empty()) return;
  {
    std::lock_guard lock(mutex_);
    for (std::shared_ptr<Outbox>& outbox : touched) {
      if (std::exchange(outbox->listed, true)) continue;
      list_.push_back(std::move(outbox));
    }
  }
  changed_.notify_one();
  touched.clear();
}

void TouchedList::Take(std::vector<std::shared_ptr<Outbox>>* taken, SteadyTime deadline) {
  taken->clear();
  std::unique_lock lock(mutex_);
  const auto ready = [this] { return !list_.empty() || nudged_; };
  if (deadline == SteadyTime::max()) {  // see Wakeup::WaitUntil
    changed_.wait(lock, ready);
  } else {
    changed_.wait_until(lock, deadline, ready);
  }
  nudged_ = false;
  std::swap(*taken, list_);
  // From here on, an outbox that changes goes into the next list.
  for (const std::shared_ptr<Outbox>& outbox : *taken) outbox->listed = false;
}

void TouchedList::Nudge() {
  {
    std::lock_guard lock(mutex_);
    nudged_ = true;
  }
  changed_.notify_one();
}

}  // namespace baram
