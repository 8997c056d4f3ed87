// Lifecycle: whether this process is started, ready and alive; the one truth behind the probes, the
// gRPC health service and /health.
//
//   started --SetReady--> ready --StopAdvertising--> not ready, still accepting --Drain--> refusing
#ifndef BARAM_SERVER_LIFECYCLE_H_
#define BARAM_SERVER_LIFECYCLE_H_

#include <atomic>
#include <functional>
#include <mutex>

#include "engine/engine.h"

namespace baram::server {

// All methods from any thread. The engine must outlive it.
class Lifecycle {
 public:
  explicit Lifecycle(Engine& engine);

  // Called now and whenever readiness changes through the methods below. Set before SetReady.
  void Watch(std::function<void(bool ready)> watcher);

  void SetReady();
  // Readiness turns false while calls are still accepted: load balancers need time to see it.
  void StopAdvertising();
  // Refuses new calls from now on; running ones go on until `limit`.
  void Drain(SteadyTime limit);

  bool started() const { return started_.load(std::memory_order_acquire); }
  bool ready() const;
  bool accepting() const { return accepting_.load(std::memory_order_acquire) && engine_.alive(); }
  // False once the device is lost or the engine makes no progress: restart the process. Overload
  // never turns it.
  bool live() const;
  bool draining() const { return !accepting_.load(std::memory_order_acquire); }

 private:
  void Advertise(bool ready);

  Engine& engine_;
  std::atomic<bool> started_{false};
  std::atomic<bool> advertised_{false};
  std::atomic<bool> accepting_{true};
  std::mutex mutex_;  // guards the watcher
  std::function<void(bool)> watcher_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_LIFECYCLE_H_
