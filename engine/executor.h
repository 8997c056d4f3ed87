// StepRunner: runs steps on a device, in order. Executor: the thread that does so.
#ifndef BARAM_ENGINE_EXECUTOR_H_
#define BARAM_ENGINE_EXECUTOR_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/batch.h"
#include "engine/loaded_model.h"
#include "engine/step_graphs.h"
#include "engine/wakeup.h"

namespace baram {

// Used by one thread. With planning depth 2, a step is issued completely before the results of the
// previous one are waited for: the engine commits those while the device computes, and the device
// goes from logits to draw without waiting for the host.
class StepRunner {
 public:
  // `model` must outlive it.
  explicit StepRunner(LoadedModel& model) : model_(model), graphs_(model) {}

  // Issues `batch` and returns the step that has finished by now: `batch` itself on a synchronous
  // device, else the previous one or null. Once a step is lost, so are all later ones: a flush may
  // report the loss to the engine after it has planned the next step.
  Batch* Run(Batch* batch);
  // Waits for the step in flight and returns it; null if there is none.
  Batch* Flush();

  const StepGraphs& graphs() const { return graphs_; }

 private:
  void Issue(Batch& batch);
  // How long `batch` took; it must be the last one waited for.
  StepTime MeasuredTime(const Batch& batch);

  LoadedModel& model_;
  StepGraphs graphs_;
  Batch* pending_ = nullptr;  // issued, not yet waited for
  // For synchronous devices.
  SteadyTime begun_{};  // when the issued step began
  SteadyTime ended_{};  // when the step before it ended
  bool lost_ = false;   // the device must not be called any more
};

// Owns the device thread. Push and TryPop are called by the engine thread.
class Executor {
 public:
  // Notifies `engine` whenever a step has finished. `model` must outlive it.
  Executor(LoadedModel& model, std::shared_ptr<Wakeup> engine);
  // Finishes what was pushed; the results are dropped.
  ~Executor();

  // Null: finish the step in flight, with none to follow it.
  void Push(Batch* batch);
  // The next finished step, or null.
  Batch* TryPop();

 private:
  void Loop();

  StepRunner runner_;
  std::shared_ptr<Wakeup> engine_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Batch*> input_;  // guarded by mutex_, as the next two
  std::vector<Batch*> finished_;
  bool closed_ = false;
  std::thread thread_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_EXECUTOR_H_
