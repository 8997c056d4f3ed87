// StepRunner and Executor: upload, forward, sample, download.
#include "engine/executor.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

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
  batch->follows = pending_ != nullptr;
  begun_ = std::chrono::steady_clock::now();
  StepInput input = batch->Input();
  if (batch->only_decodes()) {
    input.padded_rows = graphs_.PaddedRows(static_cast<int32_t>(input.rows.size()));
  }
  const StepView step = device.BeginStep(input);
  const Tensor logits = graphs_.Forward(step, input.padded_rows > 0);
  Batch* finished = Flush();
  if (step.live_outputs > 0 && !lost_) {
    auto* results = static_cast<TokenResult*>(model_.results_memory.data());
    device.Sample({.step = step.Live(),
                   .logits = logits.Rows(step.live_outputs),
                   .valid_vocab = model_.valid_vocab,
                   .masks = nullptr,
                   .results = results});
    device.Download(batch->results.data(), results,
                    step.live_outputs * static_cast<int64_t>(sizeof(TokenResult)));
  }
  if (!lost_) batch->mark = device.Record();
  pending_ = batch;
  return device.Info().planning_depth > 1 ? finished : Flush();
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
  if (model_.device->Info().planning_depth > 1) return model_.device->TimeOf(batch.mark);
  using Seconds = std::chrono::duration<double>;
  const SteadyTime now = std::chrono::steady_clock::now();
  const SteadyTime before = std::exchange(ended_, now);
  const Seconds gap = before == SteadyTime{} ? Seconds{} : Seconds(begun_ - before);
  return {.busy_s = Seconds(now - begun_).count(), .gap_s = gap.count()};
}

bool StepRunner::RunWarmUpStep(int32_t tokens) {
  Device& device = *model_.device;
  const SlotShape& shape = model_.slots;
  const int32_t page_tokens = model_.plan.shape.page_tokens;
  const int32_t row_count = std::min(tokens, shape.slots);
  const int32_t row_tokens = std::min(tokens / row_count, model_.info.max_model_len);
  const int32_t row_pages = (row_tokens + page_tokens - 1) / page_tokens;
  if (int64_t{row_count} * row_pages * shape.groups > model_.pool.pages) return false;

  std::vector<SlotInit> inits(row_count);
  std::vector<Row> rows(row_count);
  std::vector<PageDelta> pages;
  for (int32_t slot = 0; slot < row_count; ++slot) {
    inits[slot].slot = slot;
    rows[slot] = {.slot = slot, .count = row_tokens, .output = RowOutput::kDraw};
    for (int32_t i = 0; i < shape.groups * row_pages; ++i) {
      pages.push_back({.slot = slot,
                       .group = i / row_pages,
                       .index = i % row_pages,
                       .page = static_cast<int32_t>(pages.size())});
    }
  }
  const std::vector<int32_t> ids(size_t{1} * row_count * row_tokens, 0);
  const StepView step = device.BeginStep(
      {.inits = inits, .page_deltas = pages, .rows = rows, .tokens = ids, .targets = {}});
  device.Sample({.step = step,
                 .logits = graphs_.Forward(step, false),
                 .valid_vocab = model_.valid_vocab,
                 .masks = nullptr,
                 .results = static_cast<TokenResult*>(model_.results_memory.data())});
  return true;
}

bool StepRunner::WarmUp() {
  Device& device = *model_.device;
  Check(RunWarmUpStep(1), "the pool has a page for every group");
  if (device.Info().planning_depth > 1) {
    const int32_t most = model_.slots.max_step_tokens;
    for (int32_t tokens = 2; tokens < most && RunWarmUpStep(tokens);) tokens *= 2;
    if (most > 1) RunWarmUpStep(most);
  }
  TokenResult result;
  device.Download(&result, model_.results_memory.data(), sizeof(result));
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
