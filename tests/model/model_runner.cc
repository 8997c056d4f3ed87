// ModelRunner: runs one sequence through a model on a device, without the engine.
#include "tests/model/model_runner.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "tests/environment.h"

namespace baram::testing {
namespace {

// ref accepts pages of any size: small ones, so that even a short prompt has many.
int32_t SmallPages(const DeviceInfo& info) { return info.name == "ref" ? 8 : info.page_tokens; }

std::vector<float> LogSoftmax(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  std::vector<float> result;
  for (const float logit : logits) {
    result.push_back(static_cast<float>(logit - most - std::log(sum)));
  }
  return result;
}

}  // namespace

std::unique_ptr<Device> TestDevice::Open() const {
  std::string error;
  std::unique_ptr<Device> opened = OpenDevice(device, options, &error);
  Check(opened != nullptr, error.c_str());
  return opened;
}

std::vector<TestDevice> TestDevices() {
  if (const std::string device = RequestedDevice(); !device.empty()) {
    return {{TestName(device), device, {.overlap_kernels = KernelsOverlap()}}};
  }
  std::vector<TestDevice> devices = {{"ref", "ref", {}}};
  for (const char* isa : {"avx2", "avx512", "avx512_bf16", "amx"}) {
    DeviceOptions options;
    options.threads = 2;
    options.isa = isa;
    std::string error;
    if (OpenDevice("cpu", options, &error) == nullptr) continue;
    devices.push_back({std::string("cpu_") + isa, "cpu", options});
  }
  return devices;
}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Open(std::unique_ptr<Device> device,
                                                               const std::string& folder,
                                                               int32_t max_tokens,
                                                               const SpecChange& change) {
  std::unique_ptr<ModelRunner> runner(new ModelRunner(std::move(device)));
  if (absl::Status loaded = runner->Load(folder, max_tokens, change); !loaded.ok()) return loaded;
  return runner;
}

absl::Status ModelRunner::Load(const std::string& folder, int32_t max_tokens,
                               const SpecChange& change) {
  absl::StatusOr<ModelSpec> spec = ReadModelSpec(folder);
  if (!spec.ok()) return spec.status();
  if (change.before_loading) change.before_loading(*spec);
  auto weights = LoadWeights(folder, *spec, *device_,
                             {.positions = max_tokens, .threads = 2, .progress = nullptr});
  if (!weights.ok()) return weights.status();
  weights_ = *std::move(weights);
  if (change.after_loading) change.after_loading(*weights_);

  plan_ = PlanKv(weights_->spec, SmallPages(device_->Info()));
  slots_ = {.slots = 1,
            .groups = plan_.groups(),
            .max_pages_per_slot = (max_tokens + PageTokens() - 1) / PageTokens(),
            .vocab_size = weights_->spec.vocab_size,
            .max_step_tokens = max_tokens,
            .max_step_outputs = max_tokens};
  pool_.shape = plan_.shape;
  pool_.page_bytes = device_->KvBytesPerPage(plan_.shape);
  pool_.pages = slots_.groups * slots_.max_pages_per_slot;
  pool_memory_ = device_->Alloc(pool_.pages * pool_.page_bytes);
  pool_.data = pool_memory_.data();
  const std::vector<unsigned char> nan(pool_.pages * pool_.page_bytes, 0xff);
  device_->Upload(pool_.data, nan.data(), static_cast<int64_t>(nan.size()));
  results_ = device_->Alloc(slots_.max_step_outputs * int64_t{sizeof(TokenResult)});
  auto workspace = MakeWorkspace(weights_->spec, *device_, plan_.shape, slots_);
  if (!workspace.ok()) return workspace.status();
  workspace_ = *std::move(workspace);
  Check(device_->ReserveSlots(slots_), "there is memory for the slots");
  return absl::OkStatus();
}

void ModelRunner::Reset() {
  fresh_ = true;
  length_ = 0;
  free_pages_.clear();
  for (int32_t page = 0; page < pool_.pages; ++page) free_pages_.push_back(page);
  pages_.assign(plan_.groups(), std::vector<int32_t>(slots_.max_pages_per_slot, -1));
}

void ModelRunner::FreePagesBehindWindows() {
  for (int32_t group = 0; group < plan_.groups(); ++group) {
    const int32_t window = plan_.windows[group];
    if (window == 0) continue;
    // The next token sees the positions from length_ - window + 1 on.
    const int32_t dead = std::max(0, length_ - window + 1) / PageTokens();
    for (int32_t index = 0; index < dead; ++index) {
      int32_t& page = pages_[group][index];
      if (page >= 0) free_pages_.push_back(page);
      page = -1;
    }
  }
}

std::vector<PageDelta> ModelRunner::TakePages(int32_t tokens) {
  std::vector<PageDelta> deltas;
  for (int32_t group = 0; group < slots_.groups; ++group) {
    for (int32_t index = length_ / PageTokens(); index <= (length_ + tokens - 1) / PageTokens();
         ++index) {
      int32_t& page = pages_[group][index];
      if (page >= 0) continue;
      page = free_pages_.back();
      free_pages_.pop_back();
      deltas.push_back({.slot = 0, .group = group, .index = index, .page = page});
    }
  }
  return deltas;
}

std::vector<TokenResult> ModelRunner::Step(const Row& row, std::span<const int32_t> tokens,
                                           std::span<const int32_t> targets,
                                           std::vector<float>* log_probs) {
  FreePagesBehindWindows();
  const std::vector<PageDelta> deltas = TakePages(row.count);
  SlotInit init;
  init.sampling.temperature = 0;
  init.sampling.logprobs = 0;
  StepInput input;
  if (fresh_) input.inits = {&init, 1};
  input.page_deltas = deltas;
  input.rows = {&row, 1};
  input.tokens = tokens;
  input.targets = targets;
  const StepView step = device_->BeginStep(input);
  const Tensor logits = Forward({*device_, *weights_, plan_, pool_, *workspace_}, step);
  if (log_probs != nullptr) {
    std::vector<float> host(logits.rows * logits.cols);
    device_->Download(host.data(), logits.data, static_cast<int64_t>(host.size() * sizeof(float)));
    Check(device_->Wait(device_->Record()), "the device is there");
    for (int64_t r = 0; r < logits.rows; ++r) {
      const std::vector<float> row_log_probs =
          LogSoftmax(std::span(host).subspan(r * logits.cols, logits.cols));
      log_probs->insert(log_probs->end(), row_log_probs.begin(), row_log_probs.end());
    }
  }
  device_->Sample({.step = step,
                   .logits = logits,
                   .valid_vocab = slots_.vocab_size,
                   .results = static_cast<TokenResult*>(results_.data())});
  std::vector<TokenResult> results(step.outputs);
  device_->Download(results.data(), results_.data(),
                    static_cast<int64_t>(results.size() * sizeof(TokenResult)));
  Check(device_->Wait(device_->Record()), "the device is there");
  fresh_ = false;
  length_ += row.count;
  return results;
}

Reply ModelRunner::Run(std::span<const int32_t> prompt, int32_t chunk, int32_t greedy) {
  Reset();
  Reply reply;
  const int32_t prompt_tokens = static_cast<int32_t>(prompt.size());
  for (int32_t begin = 0; begin < prompt_tokens; begin += chunk) {
    Row row;
    row.count = std::min(chunk, prompt_tokens - begin);
    const bool last = begin + row.count == prompt_tokens;
    row.scores = last ? row.count - 1 : row.count;
    row.draws = last;
    const std::vector<TokenResult> results =
        Step(row, prompt.subspan(begin, row.count), prompt.subspan(begin + 1, row.scores),
             &reply.log_probs);
    for (int32_t i = 0; i < row.scores; ++i) {
      reply.prompt_logprobs.push_back(results[i].logprob);
    }
    if (last && greedy > 0) reply.greedy_ids.push_back(results.back().token);
  }
  while (static_cast<int32_t>(reply.greedy_ids.size()) < greedy) {
    Row row;
    row.continues = true;
    row.draws = true;
    reply.greedy_ids.push_back(Step(row, {}, {}, nullptr).back().token);
  }
  return reply;
}

}  // namespace baram::testing
