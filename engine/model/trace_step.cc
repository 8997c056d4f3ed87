// TraceStep: a model without memory, and one step of it.
#include "engine/model/trace_step.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "engine/model/forward.h"
#include "engine/model/weight_fill.h"
#include "engine/model/weight_layout.h"
#include "kernels/check.h"

namespace baram {
namespace {

// Everything that one traced step needs. Its addresses point to no memory.
struct TracedModel {
  Weights weights;
  KvPlan plan;
  KvPool pool;
  SlotShape slots;
  std::unique_ptr<Workspace> workspace;
};

TracedModel MakeTracedModel(const ModelSpec& spec, int32_t page_tokens, int32_t tokens,
                            int32_t outputs, TraceDevice& trace) {
  constexpr const char* kTakesNoMemory = "a trace takes no memory";
  TracedModel model;
  model.weights.spec = spec;
  const WeightLayout layout = LayOutWeights(trace.Info().weights, model.weights);
  Check(PlaceWeights(layout, spec.max_positions, trace, model.weights).ok(), kTakesNoMemory);
  model.plan = PlanKv(spec, page_tokens > 0 ? page_tokens : trace.Info().page_tokens);
  model.pool = {.data = nullptr,
                .shape = model.plan.shape,
                .page_bytes = trace.KvBytesPerPage(model.plan.shape),
                .pages = 1};
  model.slots = {.slots = std::max(1, outputs),
                 .groups = model.plan.groups(),
                 .max_pages_per_slot = 1,
                 .vocab_size = spec.vocab_size,
                 .max_step_tokens = tokens,
                 .max_step_outputs = outputs};
  auto workspace = MakeWorkspace(spec, trace, model.plan.shape, model.slots);
  Check(workspace.ok(), kTakesNoMemory);
  model.workspace = *std::move(workspace);
  Check(trace.ReserveSlots(model.slots), kTakesNoMemory);
  return model;
}

}  // namespace

TracedStep TraceStep(const ModelSpec& spec, int32_t page_tokens, int32_t tokens, int32_t outputs,
                     TraceDevice& trace) {
  const TracedModel model = MakeTracedModel(spec, page_tokens, tokens, outputs, trace);
  std::vector<Row> rows(std::max(1, outputs));
  const int32_t row_count = static_cast<int32_t>(rows.size());
  for (int32_t i = 0; i < row_count; ++i) {
    rows[i].slot = i;
    rows[i].count = tokens / row_count + (i < tokens % row_count ? 1 : 0);
    rows[i].draws = outputs > 0;
  }
  const std::vector<int32_t> ids(tokens);
  const StepView step =
      trace.BeginStep({.inits = {}, .page_deltas = {}, .rows = rows, .tokens = ids, .targets = {}});
  return {step, Forward({trace, model.weights, model.plan, model.pool, *model.workspace}, step)};
}

}  // namespace baram
