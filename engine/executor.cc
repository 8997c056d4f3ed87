// StepRunner and Executor: upload, forward, sample, download.
#include "engine/executor.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "engine/model/forward.h"
#include "kernels/check.h"

namespace baram {
namespace {

// Never more than the planning depth, and a flush.
constexpr size_t kQueueCapacity = 8;

// Rows of that many tokens and of more are computed by the same kernels of attention.
constexpr int32_t kMostMixedTokens = 32;

// Of a step of `tokens` tokens, or a few less: equal rows, in as many slots as there are.
std::vector<int32_t> EqualRows(int32_t tokens, const LoadedModel& model) {
  const int32_t rows = std::min(tokens, model.slots.slots);
  return std::vector<int32_t>(rows, std::min(tokens / rows, model.info.max_model_len));
}

// Of a step that mixes decodes and chunks: 1, 2, 4, ... tokens.
std::vector<int32_t> MixedRows(const LoadedModel& model) {
  const int32_t longest = std::min(kMostMixedTokens, model.info.max_model_len);
  std::vector<int32_t> rows;
  int32_t total = 0;
  for (int32_t tokens = 1; tokens <= longest; tokens *= 2) {
    total += tokens;
    if (std::ssize(rows) == model.slots.slots || total > model.slots.max_step_tokens) break;
    rows.push_back(tokens);
  }
  return rows;
}

// A model of fewer layers, with the weights of another's.
struct ShortModel {
  Weights weights;
  KvPlan plan;
};

// The first layer of each kind and the last, which ends differently: see KeepOutputs in forward.cc.
ShortModel OneLayerOfEachKind(const LoadedModel& model) {
  ShortModel made{*model.weights, model.plan};
  const std::vector<LayerSpec>& layers = model.weights->spec.layers;
  made.weights.spec.layers.clear();
  made.weights.layers.clear();
  made.plan.layers.clear();
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool is_known =
        std::ranges::find(made.weights.spec.layers, layers[i]) != made.weights.spec.layers.end();
    if (is_known && i + 1 < layers.size()) continue;
    made.weights.spec.layers.push_back(layers[i]);
    made.weights.layers.push_back(model.weights->layers[i]);
    made.plan.layers.push_back(model.plan.layers[i]);
  }
  return made;
}

}  // namespace

Batch* StepRunner::Run(Batch* batch) {
  Device& device = *model_.device;
  // The engine plans no further ahead than the device goes, so it has heard of the loss by now.
  Check(!lost_, "no step is planned for a device that is lost");
  batch->follows = pending_ != nullptr;
  begun_ = std::chrono::steady_clock::now();
  StepInput input = batch->Input();
  if (batch->only_decodes()) {
    input.padded_rows = graphs_.PaddedRows(static_cast<int32_t>(input.rows.size()));
  }
  const StepView step = device.BeginStep(input);
  const Tensor logits = graphs_.Forward(step, input.padded_rows > 0);
  if (step.live_outputs > 0) {
    auto* results = static_cast<TokenResult*>(model_.results_memory.data());
    device.Sample({.step = step.Live(),
                   .logits = logits.Rows(step.live_outputs),
                   .valid_vocab = model_.valid_vocab,
                   .masks = nullptr,
                   .results = results});
    device.Download(batch->results.data(), results,
                    step.live_outputs * static_cast<int64_t>(sizeof(TokenResult)));
  }
  batch->mark = device.Record();
  Batch* finished = Flush();
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

bool StepRunner::RunWarmUpStep(const std::vector<int32_t>& row_tokens, const Weights& weights,
                               const KvPlan& plan) {
  Device& device = *model_.device;
  const int32_t page_tokens = model_.plan.shape.page_tokens;
  std::vector<SlotInit> inits;
  std::vector<Row> rows;
  std::vector<PageDelta> pages;
  for (const int32_t tokens : row_tokens) {
    const auto slot = static_cast<int32_t>(rows.size());
    inits.emplace_back().slot = slot;
    rows.push_back({.slot = slot, .count = tokens, .draws = true});
    for (int32_t group = 0; group < model_.slots.groups; ++group) {
      for (int32_t i = 0; i * page_tokens < tokens; ++i) {
        const auto page = static_cast<int32_t>(pages.size());
        pages.push_back({.slot = slot, .group = group, .index = i, .page = page});
      }
    }
  }
  if (std::ssize(pages) > model_.pool.pages) return false;
  const std::vector<int32_t> ids(std::accumulate(row_tokens.begin(), row_tokens.end(), size_t{0}));
  const StepView step = device.BeginStep(
      {.inits = inits, .page_deltas = pages, .rows = rows, .tokens = ids, .targets = {}});
  device.Sample({.step = step,
                 .logits = Forward(device, weights, plan, model_.pool, step, *model_.workspace),
                 .valid_vocab = model_.valid_vocab,
                 .masks = nullptr,
                 .results = static_cast<TokenResult*>(model_.results_memory.data())});
  return true;
}

bool StepRunner::WarmUp() {
  Device& device = *model_.device;
  Check(RunWarmUpStep(EqualRows(1, model_), *model_.weights, model_.plan),
        "the pool has a page for every group");
  if (device.Info().planning_depth > 1) {
    const ShortModel made = OneLayerOfEachKind(model_);
    const auto run = [&](const std::vector<int32_t>& rows) {
      return RunWarmUpStep(rows, made.weights, made.plan);
    };
    const int32_t most = model_.slots.max_step_tokens;
    for (int32_t tokens = 2; tokens < most && run(EqualRows(tokens, model_));) tokens *= 2;
    if (most > 1) run(EqualRows(most, model_));
    std::vector<int32_t> mixed = MixedRows(model_);
    while (mixed.size() > 1 && !run(mixed)) mixed.pop_back();
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
