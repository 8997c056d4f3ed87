// CountOps, StepCost: sums over a traced step's ops. LeastStepCost: the products counted by hand.
#include "engine/model/step_cost.h"

#include <algorithm>

#include "engine/model/trace_step.h"

namespace baram {

StepOps CountOps(const ModelSpec& spec, const Device& device) {
  TraceDevice trace(device);
  TraceStep(spec, /*page_tokens=*/0, /*tokens=*/1, /*outputs=*/1, trace);
  StepOps ops;
  for (const TraceDevice::Entry& entry : trace.Entries()) {
    (entry.is_product ? ops.products : ops.others) += entry.count;
  }
  return ops;
}

OpCost StepCost(const ModelSpec& spec, const Device& device, int64_t tokens, int64_t outputs,
                double context_tokens) {
  TraceDevice trace(device);
  const TracedStep traced = TraceStep(spec, /*page_tokens=*/0, static_cast<int32_t>(tokens),
                                      static_cast<int32_t>(outputs), trace);
  OpCost total;
  for (const TraceDevice::Entry& entry : trace.Entries()) {
    total.bytes += entry.cost.bytes * static_cast<double>(entry.count);
    total.flops += entry.cost.flops * static_cast<double>(entry.count);
  }
  // The trace counts Attend without its context. No token sees more than its layer's window.
  AttendArgs attend;
  attend.step = traced.step;
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
    // What follows the last layer's attention is only for the rows whose logits are needed.
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
