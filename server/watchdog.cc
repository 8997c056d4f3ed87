// Watchdog: see the header.
#include "server/watchdog.h"

#include <pthread.h>

#include <future>
#include <thread>
#include <utility>

#include "server/exit_codes.h"

namespace baram::server {

int Watchdog::Look() const {
  if (!engine_.alive()) return kExitOs;
  return engine_.stalled_s() > stuck_s_ ? kExitInternal : 0;
}

int Watchdog::Await(std::function<void()> stop, const std::function<void()>& look) const {
  std::packaged_task<void()> task([stop = std::move(stop)] {
    pthread_setname_np(pthread_self(), "baram-stop");
    stop();
  });
  const std::future<void> stopped = task.get_future();
  std::thread thread(std::move(task));
  const auto stuck = [&] {
    if (Look() != kExitInternal) {
      look();
      return false;
    }
    if (thread.joinable()) thread.detach();
    return true;
  };
  while (stopped.wait_for(kInterval) != std::future_status::ready) {
    if (stuck()) return kExitInternal;
  }
  thread.join();
  constexpr auto kMoment = std::chrono::milliseconds(10);
  while (engine_.stalled_s() > 0) {
    if (stuck()) return kExitInternal;
    std::this_thread::sleep_for(kMoment);
  }
  return Look();
}

}  // namespace baram::server
