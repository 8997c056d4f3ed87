// Lifecycle: started, ready, accepting, alive.
#include "server/lifecycle.h"

#include <utility>

namespace baram::server {
namespace {

// A step of a large model on few cores takes a minute or two, never this long.
constexpr double kStalledS = 300;

}  // namespace

Lifecycle::Lifecycle(Engine& engine) : engine_(engine) {}

void Lifecycle::Watch(std::function<void(bool ready)> watcher) {
  std::lock_guard lock(mutex_);
  watcher_ = std::move(watcher);
  if (watcher_) watcher_(ready());
}

void Lifecycle::Advertise(bool ready) {
  std::lock_guard lock(mutex_);
  advertised_.store(ready, std::memory_order_release);
  if (watcher_) watcher_(ready);
}

void Lifecycle::SetReady() {
  started_.store(true, std::memory_order_release);
  Advertise(true);
}

void Lifecycle::StopAdvertising() { Advertise(false); }

void Lifecycle::Drain(SteadyTime limit) {
  Advertise(false);
  accepting_.store(false, std::memory_order_release);
  engine_.Drain(limit);
}

bool Lifecycle::ready() const {
  return advertised_.load(std::memory_order_acquire) && engine_.alive();
}

bool Lifecycle::live() const { return engine_.alive() && engine_.stalled_s() < kStalledS; }

}  // namespace baram::server
