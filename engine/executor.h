// StepRunner: takes steps through a device, in order. Executor: the thread that does so.
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

// Used by one thread. With planning depth 2 all of a step is issued before the results of the step
// before it are waited for, so that the engine commits those while the device computes, and the
// device goes from the logits to the draw without its host.
class StepRunner {
 public:
  // `model` must outlive it.
  explicit StepRunner(LoadedModel& model) : model_(model), graphs_(model) {}

  // Issues `batch` and returns the step that is finished by now: `batch` itself on a synchronous
  // device, else the one before it or null. Once a step was lost, so are all that come: a flush may
  // bring the loss to the engine after it has planned the next one.
  Batch* Run(Batch* batch);
  // The step in flight, finished; null if there is none.
  Batch* Flush();

  const StepGraphs& graphs() const { return graphs_; }

 private:
  void Issue(Batch& batch);
  // How long `batch` took, which was just waited for.
  StepTime MeasuredTime(const Batch& batch);

  LoadedModel& model_;
  StepGraphs graphs_;
  Batch* pending_ = nullptr;  // issued, not waited for
  // On a synchronous device.
  SteadyTime begun_{};  // the step that is issued
  SteadyTime ended_{};  // the step before
  bool lost_ = false;   // the device must not be called any more
};

// Owns the device thread. Push and TryPop are the engine thread's.
class Executor {
 public:
  // Notifies `engine` whenever a step is finished. `model` must outlive it.
  Executor(LoadedModel& model, std::shared_ptr<Wakeup> engine);
  // Finishes what was pushed; the results are dropped.
  ~Executor();

  // Null: finish what is in flight, there is nothing to add.
  void Push(Batch* batch);
  // The next finished step, or null.
  Batch* TryPop();

 private:
  void Loop();

  StepRunner runner_;
  std::shared_ptr<Wakeup> engine_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Batch*> input_;  // guarded by mutex_, as all below
  std::vector<Batch*> finished_;
  bool closed_ = false;
  std::thread thread_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_EXECUTOR_H_
