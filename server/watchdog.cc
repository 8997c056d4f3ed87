// Watchdog: see the header.
#include "server/watchdog.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "server/exit_codes.h"

namespace baram::server {

Watchdog::Watchdog(const Engine& engine, double stuck_s, double standstill_s)
    : engine_(engine), stuck_s_(stuck_s), awake_(standstill_s) {
  std::packaged_task<void()> task([told = stop_.get_future()]() mutable {
    pthread_setname_np(pthread_self(), "baram-stop");
    if (const std::function<void()> stop = told.get()) stop();
  });
  stopped_ = task.get_future();
  thread_ = std::thread(std::move(task));
}

Watchdog::~Watchdog() {
  if (!thread_.joinable()) return;
  stop_.set_value({});
  thread_.join();
}

int Watchdog::Look() {
  // In this order: the process may be suspended between the two.
  const double stalled_s = engine_.stalled_s();
  const double awake_s = awake_.Look();
  if (!engine_.alive()) return kExitOs;
  return std::min(stalled_s, awake_s) > stuck_s_ ? kExitInternal : 0;
}

int Watchdog::Await(std::function<void()> stop, const std::function<void()>& look) {
  stop_.set_value(std::move(stop));
  const auto stuck = [&] {
    if (Look() != kExitInternal) {
      look();
      return false;
    }
    if (thread_.joinable()) thread_.detach();
    return true;
  };
  while (stopped_.wait_for(kInterval) != std::future_status::ready) {
    if (stuck()) return kExitInternal;
  }
  thread_.join();
  constexpr auto kMoment = std::chrono::milliseconds(10);
  while (engine_.stalled_s() > 0) {
    if (stuck()) return kExitInternal;
    std::this_thread::sleep_for(kMoment);
  }
  return Look();
}

}  // namespace baram::server
