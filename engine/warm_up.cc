// WarmUp: steps of made-up tokens, through the whole model or one layer of each kind.
#include "engine/warm_up.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/check.h"

namespace baram {
namespace {

// Rows of this many tokens and of more use the same attention kernels.
constexpr int32_t kMaxMixedTokens = 32;

// The rows of a step of `tokens` tokens, or a few less: all equal, in as many slots as possible.
std::vector<int32_t> EqualRows(int32_t tokens, const LoadedModel& model) {
  const int32_t rows = std::min(tokens, model.slots.slots);
  return std::vector<int32_t>(rows, std::min(tokens / rows, model.info.max_model_len));
}

// The rows of a step that mixes decodes and chunks: 1, 2, 4, ... tokens.
std::vector<int32_t> MixedRows(const LoadedModel& model) {
  const int32_t longest = std::min(kMaxMixedTokens, model.info.max_model_len);
  std::vector<int32_t> rows;
  int32_t total = 0;
  for (int32_t tokens = 1; tokens <= longest; tokens *= 2) {
    total += tokens;
    if (std::ssize(rows) == model.slots.slots || total > model.slots.max_step_tokens) break;
    rows.push_back(tokens);
  }
  return rows;
}

// A model with some of another's layers, which shares its weights.
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

// Runs a step of rows of `row_tokens` tokens, each in a slot of its own, through the layers of
// `view`. Returns false, running nothing, if the pool is too small for it.
bool RunStep(const LoadedModel& model, const std::vector<int32_t>& row_tokens,
             const ModelView& view) {
  Device& device = *model.device;
  const int32_t page_tokens = model.plan.shape.page_tokens;
  std::vector<SlotInit> inits;
  std::vector<Row> rows;
  std::vector<PageDelta> pages;
  for (const int32_t tokens : row_tokens) {
    const auto slot = static_cast<int32_t>(rows.size());
    inits.emplace_back().slot = slot;
    rows.push_back({.slot = slot, .count = tokens, .draws = true});
    for (int32_t group = 0; group < model.slots.groups; ++group) {
      for (int32_t i = 0; i * page_tokens < tokens; ++i) {
        const auto page = static_cast<int32_t>(pages.size());
        pages.push_back({.slot = slot, .group = group, .index = i, .page = page});
      }
    }
  }
  if (std::ssize(pages) > model.pool.pages) return false;
  const std::vector<int32_t> ids(std::accumulate(row_tokens.begin(), row_tokens.end(), size_t{0}));
  const StepView step = device.BeginStep(
      {.inits = inits, .page_deltas = pages, .rows = rows, .tokens = ids, .targets = {}});
  device.Sample({.step = step,
                 .logits = Forward(view, step),
                 .valid_vocab = model.valid_vocab,
                 .masks = nullptr,
                 .results = static_cast<TokenResult*>(model.results_memory.data())});
  return true;
}

}  // namespace

absl::Status WarmUp(LoadedModel& model) {
  Device& device = *model.device;
  TokenResult first;
  Check(RunStep(model, EqualRows(1, model), model.View()), "the pool has a page for every group");
  device.Download(&first, model.results_memory.data(), sizeof(first));
  if (!device.Info().synchronous()) {
    const ShortModel made = OneLayerOfEachKind(model);
    const auto run = [&](const std::vector<int32_t>& rows) {
      return RunStep(model, rows, {device, made.weights, made.plan, model.pool, *model.workspace});
    };
    const int32_t most = model.slots.max_step_tokens;
    for (int32_t tokens = 2; tokens < most && run(EqualRows(tokens, model));) tokens *= 2;
    if (most > 1) run(EqualRows(most, model));
    std::vector<int32_t> mixed = MixedRows(model);
    while (mixed.size() > 1 && !run(mixed)) mixed.pop_back();
  }
  if (!device.Wait(device.Record())) {
    return absl::UnavailableError("the device was lost in its first step");
  }
  if ((first.flags & kResultNonFinite) == 0) return absl::OkStatus();
  return absl::DataLossError("the weights give logits that are not finite");
}

}  // namespace baram
