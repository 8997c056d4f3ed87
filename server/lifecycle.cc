// Lifecycle: started, ready, accepting, alive.
#include "server/lifecycle.h"

#include <utility>

namespace baram::server {

void Lifecycle::Watch(std::function<void(bool ready, bool live)> watcher) {
  std::lock_guard lock(mutex_);
  watcher_ = std::move(watcher);
  if (watcher_) watcher_(ready(), live());
}

void Lifecycle::NotifyWatcher() {
  std::lock_guard lock(mutex_);
  if (watcher_) watcher_(ready(), live());
}

void Lifecycle::Advertise(bool advertised) {
  std::lock_guard lock(mutex_);
  advertised_.store(advertised, std::memory_order_release);
  if (watcher_) watcher_(ready(), live());
}

void Lifecycle::SetEngine(Engine& engine) { engine_.store(&engine, std::memory_order_release); }

void Lifecycle::SetReady() {
  started_.store(true, std::memory_order_release);
  Advertise(true);
}

void Lifecycle::StopAdvertising() { Advertise(false); }

void Lifecycle::Drain(SteadyTime limit) {
  accepting_.store(false, std::memory_order_release);
  Advertise(false);
  if (Engine* engine = engine_.load(std::memory_order_acquire)) engine->Drain(limit);
}

bool Lifecycle::ready() const {
  return advertised_.load(std::memory_order_acquire) && accepting() && live();
}

bool Lifecycle::engine_alive() const {
  const Engine* engine = engine_.load(std::memory_order_acquire);
  return engine != nullptr && engine->alive();
}

bool Lifecycle::live() const {
  const Engine* engine = engine_.load(std::memory_order_acquire);
  return engine == nullptr || (engine->alive() && awake_.StalledS(*engine) < stalled_s_);
}

}  // namespace baram::server
