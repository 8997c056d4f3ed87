// Lifecycle: whether this process is started, ready and alive; the single source for the probes,
// the gRPC health service and /health.
//
//   loading --SetReady--> ready --StopAdvertising--> not ready, still accepting --Drain--> refusing
#ifndef BARAM_SERVER_LIFECYCLE_H_
#define BARAM_SERVER_LIFECYCLE_H_

#include <atomic>
#include <functional>
#include <mutex>

#include "engine/engine.h"
#include "engine/steady_time.h"
#include "server/awake_time.h"

namespace baram::server {

// Thread-safe. Created before the engine, so that probes are answered while the model loads.
class Lifecycle {
 public:
  // A part of a layer takes seconds at most, even for a large model on few cores.
  static constexpr double kStalledS = 30;

  // An engine with work that has started no part of a layer for `stalled_s` hangs, unless the
  // process itself was suspended for `standstill_s` or more.
  explicit Lifecycle(double stalled_s = kStalledS, double standstill_s = AwakeTime::kStandstillS)
      : stalled_s_(stalled_s), awake_(standstill_s) {}

  // `watcher` is called now, whenever readiness changes through the methods below, and by
  // NotifyWatcher. Set it before SetReady.
  void Watch(std::function<void(bool ready, bool live)> watcher);
  // Reports the current state to the watcher. An engine is lost, hangs and recovers by itself, so
  // the server's main loop calls this periodically.
  void NotifyWatcher();

  // The model is loaded: calls may be accepted. `engine` must outlive this.
  void SetEngine(Engine& engine);
  // Every listener is open. Ready, unless a drain was requested meanwhile.
  void SetReady();
  // Readiness turns false while calls are still accepted: load balancers need time to see it.
  void StopAdvertising();
  // Refuses new calls from now on; running ones may continue until `limit`.
  void Drain(SteadyTime limit);

  bool started() const { return started_.load(std::memory_order_acquire); }
  // Calls are accepted and would be answered; false whenever live() is.
  bool ready() const;
  bool accepting() const { return accepting_.load(std::memory_order_acquire) && engine_alive(); }
  // False once the device is lost, and while the engine makes no progress: restart the process.
  // Neither overload nor loading makes it false.
  bool live() const;
  bool draining() const { return !accepting_.load(std::memory_order_acquire); }

 private:
  void Advertise(bool advertised);
  bool engine_alive() const;

  const double stalled_s_;
  mutable AwakeTime awake_;
  std::atomic<Engine*> engine_{nullptr};  // set once
  std::atomic<bool> started_{false};
  std::atomic<bool> advertised_{false};
  std::atomic<bool> accepting_{true};
  std::mutex mutex_;  // guards the watcher
  std::function<void(bool, bool)> watcher_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_LIFECYCLE_H_
