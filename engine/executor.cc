// StepRunner and Executor: upload, forward, sample, download.
#include "engine/executor.h"

#include <utility>

#include "engine/model/forward.h"
#include "kernels/check.h"

namespace baram {
namespace {

// Never more than the planning depth, and a flush.
constexpr size_t kQueueCapacity = 8;

}  // namespace

Batch* StepRunner::Run(Batch* batch) {
  Device& device = *model_.device;
  if (lost_) {
    pending_ = batch;
    return Flush();
  }
  const StepView step = device.BeginStep(batch->Input());
  const Tensor logits =
      Forward(device, *model_.weights, model_.plan, model_.pool, step, *model_.workspace);
  Batch* finished = Flush();
  if (step.outputs > 0 && !lost_) {
    auto* results = static_cast<TokenResult*>(model_.results_memory.data());
    device.Sample({.step = step,
                   .logits = logits,
                   .valid_vocab = model_.valid_vocab,
                   .masks = nullptr,
                   .results = results});
    device.Download(batch->results.data(), results,
                    step.outputs * static_cast<int64_t>(sizeof(TokenResult)));
  }
  if (!lost_) batch->mark = device.Record();
  pending_ = batch;
  return device.Info().planning_depth > 1 ? finished : Flush();
}

Batch* StepRunner::Flush() {
  if (pending_ != nullptr) {
    lost_ = lost_ || !model_.device->Wait(pending_->mark);
    pending_->lost = lost_;
  }
  return std::exchange(pending_, nullptr);
}

bool StepRunner::WarmUp() {
  Device& device = *model_.device;
  std::vector<PageDelta> pages;
  for (size_t group = 0; group < model_.plan.groups.size(); ++group) {
    pages.push_back({.slot = 0, .group = static_cast<int32_t>(group), .index = 0, .page = 0});
  }
  const SlotInit init;
  const Row row{.slot = 0, .count = 1, .output = RowOutput::kDraw};
  const int32_t token = 0;
  const StepView step = device.BeginStep({.inits = {&init, 1},
                                          .page_deltas = pages,
                                          .rows = {&row, 1},
                                          .tokens = {&token, 1},
                                          .targets = {}});
  const Tensor logits =
      Forward(device, *model_.weights, model_.plan, model_.pool, step, *model_.workspace);
  auto* results = static_cast<TokenResult*>(model_.results_memory.data());
  device.Sample({.step = step,
                 .logits = logits,
                 .valid_vocab = model_.valid_vocab,
                 .masks = nullptr,
                 .results = results});
  TokenResult result;
  device.Download(&result, results, sizeof(result));
  return device.Wait(device.Record());
}

Executor::Executor(LoadedModel& model, std::shared_ptr<Wakeup> engine)
    : runner_(model), engine_(std::move(engine)) {
  input_.reserve(kQueueCapacity);
  finished_.reserve(kQueueCapacity);
  thread_ = std::thread([this] { Loop(); });
}

Executor::~Executor() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Executor::Push(Batch* batch) {
  {
    std::lock_guard lock(mutex_);
    Check(input_.size() < kQueueCapacity, "the engine plans no further ahead than its depth");
    input_.push_back(batch);
  }
  changed_.notify_one();
}

Batch* Executor::TryPop() {
  std::lock_guard lock(mutex_);
  if (finished_.empty()) return nullptr;
  Batch* batch = finished_.front();
  finished_.erase(finished_.begin());
  return batch;
}

void Executor::Loop() {
  while (true) {
    Batch* batch = nullptr;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !input_.empty() || closed_; });
      if (input_.empty()) break;
      batch = input_.front();
      input_.erase(input_.begin());
    }
    Batch* finished = batch == nullptr ? runner_.Flush() : runner_.Run(batch);
    if (finished == nullptr) continue;
    {
      std::lock_guard lock(mutex_);
      finished_.push_back(finished);
    }
    engine_->Notify();
  }
  runner_.Flush();
}

}  // namespace baram
