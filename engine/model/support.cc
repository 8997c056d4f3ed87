// CheckSupport and StepCost: the forward pass on the trace device. LeastStepCost.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/model/forward.h"
#include "engine/model/weight_fill.h"
#include "engine/model/weight_layout.h"
#include "kernels/check.h"
#include "kernels/trace/trace_device.h"

namespace baram {
namespace {

// Everything one traced step needs. Nothing lies behind its addresses.
struct TracedModel {
  Weights weights;
  KvPlan plan;
  KvPool pool;
  SlotShape slots;
  std::unique_ptr<Workspace> workspace;
};

absl::StatusOr<TracedModel> MakeTracedModel(const ModelSpec& spec, int32_t page_tokens,
                                            int32_t tokens, int32_t outputs, TraceDevice& trace) {
  TracedModel model;
  model.weights.spec = spec;
  const WeightLayout layout = LayOutWeights(trace.Info().weights, model.weights);
  absl::Status status = PlaceWeights(layout, spec.max_positions, trace, model.weights);
  if (!status.ok()) return status;
  model.plan = PlanKv(spec, page_tokens > 0 ? page_tokens : trace.Info().page_tokens);
  model.pool = {.data = nullptr,
                .shape = model.plan.shape,
                .page_bytes = trace.KvBytesPerPage(model.plan.shape),
                .pages = 1};
  model.slots = {.slots = std::max(1, outputs),
                 .groups = static_cast<int32_t>(model.plan.groups.size()),
                 .max_pages_per_slot = 1,
                 .vocab_size = spec.vocab_size,
                 .max_step_tokens = tokens,
                 .max_step_outputs = outputs};
  auto workspace = MakeWorkspace(spec, trace, model.plan.shape, model.slots);
  if (!workspace.ok()) return workspace.status();
  model.workspace = *std::move(workspace);
  Check(trace.ReserveSlots(model.slots), "a trace takes no memory");
  return model;
}

// Traces one step of `tokens` tokens in as many rows as there are outputs, at least one.
absl::Status TraceStep(const ModelSpec& spec, int32_t page_tokens, int32_t tokens, int32_t outputs,
                       bool sample, TraceDevice& trace, StepView& step) {
  absl::StatusOr<TracedModel> model = MakeTracedModel(spec, page_tokens, tokens, outputs, trace);
  if (!model.ok()) return model.status();
  std::vector<Row> rows(std::max(1, outputs));
  const int32_t row_count = static_cast<int32_t>(rows.size());
  for (int32_t i = 0; i < row_count; ++i) {
    rows[i].slot = i;
    rows[i].count = tokens / row_count + (i < tokens % row_count ? 1 : 0);
    rows[i].draws = outputs > 0;
  }
  const std::vector<int32_t> ids(tokens);
  step =
      trace.BeginStep({.inits = {}, .page_deltas = {}, .rows = rows, .tokens = ids, .targets = {}});
  const Tensor logits =
      Forward(trace, model->weights, model->plan, model->pool, step, *model->workspace);
  if (sample) {
    trace.Sample({.step = step, .logits = logits, .valid_vocab = spec.vocab_size});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSupport(const ModelSpec& spec, const Device& device, int32_t page_tokens) {
  TraceDevice trace(device);
  // A prompt chunk beside decodes: more tokens than rows, so no shape is special.
  StepView step;
  absl::Status status = TraceStep(spec, page_tokens, 40, 3, true, trace, step);
  if (!status.ok()) return status;
  const std::string sentences = trace.UnsupportedSentences();
  if (sentences.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("the device ", device.Info().name, " cannot run ",
                                               spec.architecture, ": ",
                                               absl::StripSuffix(sentences, "\n")));
}

OpCost StepCost(const ModelSpec& spec, const Device& device, int64_t tokens, int64_t outputs,
                double context_tokens) {
  TraceDevice trace(device);
  OpCost total;
  StepView step;
  if (!TraceStep(spec, /*page_tokens=*/0, static_cast<int32_t>(tokens),
                 static_cast<int32_t>(outputs), false, trace, step)
           .ok()) {
    return total;
  }
  for (const TraceDevice::Entry& entry : trace.Entries()) {
    total.bytes += entry.cost.bytes * static_cast<double>(entry.count);
    total.flops += entry.cost.flops * static_cast<double>(entry.count);
  }
  // The trace counts Attend without its context: no token sees more than its layer's window.
  AttendArgs attend;
  attend.step = step;
  attend.pool.shape.head = spec.head;
  attend.q.dtype = device.Info().activation;
  for (const LayerSpec& layer : spec.layers) {
    const double context = layer.window > 0
                               ? std::min(context_tokens, static_cast<double>(layer.window) *
                                                              static_cast<double>(tokens))
                               : context_tokens;
    const OpCost cost = CostOf(attend, context);
    total.bytes += cost.bytes;
    total.flops += cost.flops;
  }
  return total;
}

StepParts LeastStepCost(const ModelSpec& spec, const Device& device, int64_t tokens,
                        int64_t outputs, double context_tokens) {
  StepParts parts;
  const auto weight_bytes = static_cast<double>(DTypeBytes(device.Info().weights.dtype));
  const auto add = [&](double n, double k, int64_t rows) {
    parts.products.bytes += n * k * weight_bytes;
    parts.products.flops += 2 * n * k * static_cast<double>(rows);
  };
  const double heads = spec.head.heads * spec.head.head_dim;
  const double kv_heads = spec.head.kv_heads * spec.head.head_dim;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    // What follows the last layer's attention is for the rows that want logits alone.
    const int64_t rows = i + 1 < spec.layers.size() ? tokens : outputs;
    const double ffn = spec.layers[i].ffn;
    add(heads + 2 * kv_heads, spec.hidden, tokens);
    add(spec.hidden, heads, rows);
    add(2 * ffn, spec.hidden, rows);
    add(spec.hidden, ffn, rows);
  }
  add(spec.vocab_size, spec.hidden, outputs);
  const OpCost all = StepCost(spec, device, tokens, outputs, context_tokens);
  const OpCost without = StepCost(spec, device, tokens, outputs, 0);
  parts.attention = {all.bytes - without.bytes, all.flops - without.flops};
  return parts;
}

}  // namespace baram
