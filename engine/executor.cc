// StepRunner and Executor: upload, forward, sample, download.
#include "engine/executor.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/check.h"

namespace baram {
namespace {

// More than the planning depth plus one flush.
constexpr size_t kQueueCapacity = 8;

}  // namespace

Batch* StepRunner::Run(Batch* batch) {
  if (!lost_) Issue(*batch);
  Batch* finished = Flush();
  pending_ = batch;
  return model_.device->Info().synchronous() ? Flush() : finished;
}

void StepRunner::Issue(Batch& batch) {
  Device& device = *model_.device;
  batch.follows = pending_ != nullptr;
  begun_ = std::chrono::steady_clock::now();
  StepInput input = batch.Input();
  if (batch.only_decodes()) {
    input.padded_rows = graphs_.PaddedRows(static_cast<int32_t>(input.rows.size()));
  }
  const StepView step = device.BeginStep(input);
  Tensor logits = graphs_.Forward(step, input.padded_rows > 0);
  auto* results = static_cast<TokenResult*>(model_.results_memory.data());
  for (int32_t begin = 0; begin < step.live_outputs;) {
    if (begin > 0) logits = LogitsFrom(model_.View(), step, begin);
    const int32_t rows = std::min(static_cast<int32_t>(logits.rows), step.live_outputs - begin);
    device.Sample({.step = step.Outputs(begin, rows),
                   .logits = logits.Rows(rows),
                   .valid_vocab = model_.valid_vocab,
                   .masks = nullptr,
                   .results = results + begin});
    begin += rows;
  }
  if (step.live_outputs > 0) {
    device.Download(batch.results.data(), results,
                    step.live_outputs * static_cast<int64_t>(sizeof(TokenResult)));
  }
  batch.mark = device.Record();
}

Batch* StepRunner::Flush() {
  if (pending_ != nullptr) {
    lost_ = lost_ || !model_.device->Wait(pending_->mark);
    pending_->lost = lost_;
    pending_->time = lost_ ? StepTime{} : MeasuredTime(*pending_);
  }
  return std::exchange(pending_, nullptr);
}

StepTime StepRunner::MeasuredTime(const Batch& batch) {
  if (!model_.device->Info().synchronous()) return model_.device->TimeOf(batch.mark);
  const SteadyTime now = std::chrono::steady_clock::now();
  const SteadyTime before = std::exchange(ended_, now);
  return {.busy_s = SecondsBetween(begun_, now),
          .gap_s = before == SteadyTime{} ? 0 : SecondsBetween(before, begun_)};
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
  pthread_setname_np(pthread_self(), "baram-executor");
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
