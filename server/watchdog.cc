// Watchdog: see the header.
#include "server/watchdog.h"

#include <pthread.h>

#include <utility>

#include "server/exit_codes.h"

namespace baram::server {

Watchdog::Watchdog(const Engine& engine, double stalled_s, double standstill_s)
    : engine_(engine), stalled_s_(stalled_s), awake_(standstill_s) {
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
  const double stalled_s = awake_.StalledS(engine_);
  if (!engine_.alive()) return kExitOs;
  return stalled_s > stalled_s_ ? kExitInternal : 0;
}

int Watchdog::Await(std::function<void()> stop, const std::function<void()>& look) {
  stop_.set_value(std::move(stop));
  const auto hangs = [&] {
    if (Look() != kExitInternal) {
      look();
      return false;
    }
    if (thread_.joinable()) thread_.detach();
    return true;
  };
  while (stopped_.wait_for(kInterval) != std::future_status::ready) {
    if (hangs()) return kExitInternal;
  }
  thread_.join();
  constexpr auto kMoment = std::chrono::milliseconds(10);
  while (engine_.stalled_s() > 0) {
    if (hangs()) return kExitInternal;
    std::this_thread::sleep_for(kMoment);
  }
  return Look();
}

}  // namespace baram::server
