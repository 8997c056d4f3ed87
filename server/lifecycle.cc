// Lifecycle: started, ready, accepting, alive.
#include "server/lifecycle.h"

#include <utility>

namespace baram::server {
namespace {

// One layer takes seconds at most, even of a large model on few cores.
constexpr double kStalledS = 30;

}  // namespace

void Lifecycle::Watch(std::function<void(bool ready)> watcher) {
  std::lock_guard lock(mutex_);
  watcher_ = std::move(watcher);
  if (watcher_) watcher_(ready());
}

void Lifecycle::Advertise(bool advertised) {
  std::lock_guard lock(mutex_);
  advertised_.store(advertised, std::memory_order_release);
  if (watcher_) watcher_(ready());
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

bool Lifecycle::ready() const { return advertised_.load(std::memory_order_acquire) && accepting(); }

bool Lifecycle::engine_alive() const {
  const Engine* engine = engine_.load(std::memory_order_acquire);
  return engine != nullptr && engine->alive();
}

bool Lifecycle::live() const {
  const Engine* engine = engine_.load(std::memory_order_acquire);
  return engine == nullptr || (engine->alive() && engine->stalled_s() < kStalledS);
}

}  // namespace baram::server
