// Engine: the engine thread around EngineCore, and the executor next to it.
#include "engine/engine.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "engine/core.h"
#include "engine/executor.h"
#include "engine/loaded_model.h"
#include "engine/open.h"
#include "kernels/device.h"

namespace baram {

class Engine::Threads {
 public:
  Threads(std::unique_ptr<LoadedModel> loaded, const EngineConfig& config)
      : model(std::move(loaded)),
        core(config, *model),
        executor(*model, core.wakeup()),
        thread_([this] { Loop(); }) {}

  ~Threads() {
    stop_.store(true);
    core.wakeup()->Notify();
    thread_.join();
  }

  std::unique_ptr<LoadedModel> model;
  EngineCore core;
  Executor executor;

 private:
  // Plans as far ahead as the device allows. Sleeps only on the one wake-up.
  void Loop() {
    pthread_setname_np(pthread_self(), "baram-engine");
    bool flushed = false;
    const auto run = [this, &flushed](Batch* planned) {
      if (planned != nullptr) {
        executor.Push(planned);
        flushed = false;
      } else if (!flushed && core.steps_in_flight() > 0 &&
                 core.steps_in_flight() < core.info().planning_depth) {
        // No further step will follow to bring back the one in flight.
        executor.Push(nullptr);
        flushed = true;
      }
      return executor.TryPop();
    };
    while (true) {
      if (stop_.load()) core.Stop(std::chrono::steady_clock::now());
      const bool did_something = core.Turn(std::chrono::steady_clock::now, run);
      if (stop_.load() && core.idle() && core.steps_in_flight() == 0) return;
      if (did_something) continue;
      if (core.steps_in_flight() == 0) core.Park();
      core.wakeup()->WaitUntil(core.next_event());
    }
  }

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

Engine::Engine(std::unique_ptr<Threads> threads) : threads_(std::move(threads)) {}
Engine::~Engine() = default;

absl::StatusOr<std::unique_ptr<Engine>> Engine::Open(const EngineConfig& config) {
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = OpenModel(config);
  if (!model.ok()) return model.status();
  return Start(*std::move(model), config);
}

std::string Engine::Devices() { return BuiltDevices(); }

absl::StatusOr<Inspection> Engine::Inspect(const EngineConfig& config) {
  return InspectModel(config);
}

std::unique_ptr<Engine> Engine::Start(std::unique_ptr<LoadedModel> model,
                                      const EngineConfig& config) {
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Threads>(std::move(model), config)));
}

absl::StatusOr<std::shared_ptr<Outbox>> Engine::Submit(Request request) {
  return threads_->core.Submit(std::move(request));
}
bool Engine::Abort(const std::string& id) { return threads_->core.Abort(id); }
void Engine::Drain(SteadyTime limit) { threads_->core.Drain(limit); }
bool Engine::draining() const { return threads_->core.draining(); }
int64_t Engine::unfinished() const { return threads_->core.unfinished(); }

bool Engine::idle() const { return threads_->core.idle(); }
bool Engine::alive() const { return threads_->core.alive(); }
double Engine::stalled_s() const {
  const SteadyTime part = FromTicks(threads_->model->workspace->part_begun.load());
  const double in_part_s = SecondsBetween(part, std::chrono::steady_clock::now());
  return std::min(threads_->core.stalled_s(), std::max(0.0, in_part_s));
}
const EngineInfo& Engine::info() const { return threads_->core.info(); }
const Stats& Engine::stats() const { return threads_->core.stats(); }
TouchedList& Engine::touched() { return threads_->core.touched(); }

}  // namespace baram
