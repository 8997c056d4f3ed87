// Workspace: the activations of one step, allocated once at the largest shape.
#ifndef BARAM_ENGINE_MODEL_WORKSPACE_H_
#define BARAM_ENGINE_MODEL_WORKSPACE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/spec.h"
#include "kernels/device.h"

namespace baram {

struct Workspace {
  // T: tokens of a step, O: its outputs, which may be more; R: the larger of the two; L: the
  // outputs whose logits are computed at a time.
  Tensor residual;          // [T, d] residual type
  Tensor input;             // [R, d] activation type: what a sub-layer reads
  Tensor qkv;               // [R, (heads + 2 kv_heads) * hd]
  Tensor attention;         // [T, heads * hd]
  Tensor branch;            // [R, d] residual type: what a sub-layer returned
  Tensor gate_up;           // [R, 2 * widest ffn]
  Tensor activated;         // [R, widest ffn]
  Tensor lm_head_residual;  // [O, d] residual type: of the rows whose logits are needed
  Tensor logits;            // [L, V] fp32
  void* attend_scratch = nullptr;
  std::vector<Buffer> buffers;
  // When the last part of a layer began, in ticks of the steady clock: on a synchronous device a
  // step can take minutes, a part of a layer cannot. Read by any thread.
  std::atomic<int64_t> part_begun{0};
};

// Device memory that MakeWorkspace takes.
int64_t WorkspaceBytes(const ModelSpec& spec, const Device& device, const KvShape& kv,
                       const SlotShape& slots);

// ResourceExhausted: the device has no memory for it.
absl::StatusOr<std::unique_ptr<Workspace>> MakeWorkspace(const ModelSpec& spec, Device& device,
                                                         const KvShape& kv, const SlotShape& slots);

// Records that a part of a layer, or the LM head, begins now.
void BeginPart(Workspace& workspace);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_WORKSPACE_H_
