// Supervise: see the header.
#include "server/supervise.h"

#include <spdlog/spdlog.h>

#include <csignal>
#include <thread>

#include "absl/strings/str_format.h"
#include "engine/finish.h"
#include "engine/steady_time.h"
#include "server/exit_codes.h"
#include "server/log.h"
#include "server/memory_trim.h"

namespace baram::server {
namespace {

using std::chrono::steady_clock;

struct Watched {
  int signal = 0;
  int code = 0;  // if not 0, of the exit; there was no signal
};

Watched WatchUntilSignal(Server& server, Watchdog& watchdog, const WaitForSignal& wait_for_signal) {
  uint64_t lost_lines = 0;
  MemoryTrim trim;
  while (true) {
    if (const auto signal = wait_for_signal(Watchdog::kInterval)) return {.signal = *signal};
    server.lifecycle().NotifyWatcher();
    trim.Look(steady_clock::now());
    if (LostLogLines() > lost_lines) {
      lost_lines = LostLogLines();
      // All of them: this line may be lost like those before it.
      spdlog::warn("log lines lost since the start, not read in time or not written: {}",
                   lost_lines);
    }
    int code = watchdog.Look();
    // The calls of a lost device have failed: give their clients time to be told.
    if (code == kExitOs) {
      code = watchdog.Await([&server] { server.Stop(steady_clock::now()); },
                            [&server] { server.lifecycle().NotifyWatcher(); });
    }
    if (code != 0) return {.code = code};
  }
}

// Returns the exit code.
int StopAsTold(Server& server, Watchdog& watchdog, int signal) {
  const Config& config = server.config();
  server.lifecycle().StopAdvertising();
  // A client that requested a drain over gRPC needs no further delay: new calls are already
  // refused.
  const bool no_delay = signal == SIGINT || server.lifecycle().draining();
  const double delay = no_delay ? 0 : config.drain_delay_s;
  spdlog::info(
      "stopping: {}running calls get {:.0f} s; another signal after a second stops at once",
      delay > 0 ? absl::StrFormat("new calls are taken for %.0f s more, ", delay) : "",
      config.drain_limit_s);
  // May outlive this call: by value, except for the server.
  const auto stop = [&server, delay] {
    std::this_thread::sleep_until(FromNow(delay));
    server.Stop(FromNow(server.config().drain_limit_s));
  };
  const int code = watchdog.Await(stop, [&server] { server.lifecycle().NotifyWatcher(); });
  if (code != 0) return code;
  const auto drained = static_cast<size_t>(FinishReason::kDrained);
  const int64_t cut = server.engine().stats().finished[drained].value();
  if (cut > 0) spdlog::warn("requests cut off at the drain limit: {}", cut);
  return 0;
}

}  // namespace

int Supervise(Server& server, Watchdog& watchdog, const WaitForSignal& wait_for_signal) {
  const auto [signal, code] = WatchUntilSignal(server, watchdog, wait_for_signal);
  return code != 0 ? code : StopAsTold(server, watchdog, signal);
}

}  // namespace baram::server
