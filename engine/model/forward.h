// The forward pass, written once for every model and device.
#ifndef BARAM_ENGINE_MODEL_FORWARD_H_
#define BARAM_ENGINE_MODEL_FORWARD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/kv_plan.h"
#include "engine/model/weights.h"
#include "kernels/device.h"

namespace baram {

// Activations of one step, allocated once at the largest shape.
struct Workspace {
  // T: tokens of a step, O: its outputs, which may be more; R: the larger of the two.
  Tensor residual;       // [T, d] residual type
  Tensor input;          // [R, d] activation type: what a sub-layer reads
  Tensor qkv;            // [R, (heads + 2 kv_heads) * hd]
  Tensor attention;      // [T, heads * hd]
  Tensor branch;         // [R, d] residual type: what a sub-layer returned
  Tensor gate_up;        // [R, 2 * widest ffn]
  Tensor activated;      // [R, widest ffn]
  Tensor head_residual;  // [O, d] residual type: of the rows that want logits
  Tensor logits;         // [O, V] fp32
  void* attend_scratch = nullptr;
  std::vector<Buffer> buffers;
  // When the last layer was begun, in ticks of the steady clock: a step can take minutes on a
  // synchronous device, a layer can't. Read by any thread.
  std::atomic<int64_t> layer_begun{0};
};

// Says that a layer is begun now.
void BeginLayer(Workspace& workspace);

int64_t WorkspaceBytes(const ModelSpec& spec, const Device& device, const KvShape& kv,
                       const SlotShape& slots);
// ResourceExhausted when the device has no memory for it.
absl::StatusOr<std::unique_ptr<Workspace>> MakeWorkspace(const ModelSpec& spec, Device& device,
                                                         const KvShape& kv, const SlotShape& slots);

// Runs the step's tokens through the model and leaves logits [outputs, V] in `workspace`.
// Called by the executor thread; issues ops only, never waits.
Tensor Forward(Device& device, const Weights& weights, const KvPlan& plan, const KvPool& pool,
               const StepView& step, Workspace& workspace);

// Runs Forward and Sample on the trace device for `device` (I12): the first op, format, head size
// or page size that is not supported, as Unimplemented; nothing is loaded or computed.
// `page_tokens` as EngineConfig::page_tokens; 0: the device's choice.
absl::Status CheckSupport(const ModelSpec& spec, const Device& device, int32_t page_tokens);

// Lower bounds of one step, summed over its ops: what a benchmark divides by.
OpCost StepCost(const ModelSpec& spec, const Device& device, int64_t tokens, int64_t outputs,
                double context_tokens);

// The least of what no step can do without, in two parts that follow each other: its products read
// every weight once, attention the cache. Activations, which fit a cache, are in neither.
// `context_tokens` is the sum over the rows, as in StepCost.
struct StepParts {
  OpCost products;
  OpCost attention;
};
StepParts LeastStepCost(const ModelSpec& spec, const Device& device, int64_t tokens,
                        int64_t outputs, double context_tokens);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_FORWARD_H_
