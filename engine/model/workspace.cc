// Workspace: one table of its tensors, for both its size and its allocation.
#include "engine/model/workspace.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baram {
namespace {

struct TensorPlan {
  Tensor Workspace::*tensor;
  DType dtype;
  int64_t rows;
  int64_t cols;

  int64_t Bytes() const { return rows * cols * DTypeBytes(dtype); }
};

std::vector<TensorPlan> PlanTensors(const ModelSpec& spec, const Device& device,
                                    const SlotShape& slots) {
  const DType activation = device.Info().activation;
  const DType residual = device.Info().residual;
  const int64_t tokens = slots.max_step_tokens;
  const int64_t outputs = slots.max_step_outputs;
  const int64_t rows = std::max(tokens, outputs);
  const int64_t d = spec.hidden;
  const int64_t q = int64_t{spec.head.heads} * spec.head.head_dim;
  const int64_t kv = int64_t{spec.head.kv_heads} * spec.head.head_dim;
  int64_t ffn = 0;
  for (const LayerSpec& layer : spec.layers) ffn = std::max<int64_t>(ffn, layer.ffn);
  return {
      {&Workspace::residual, residual, tokens, d},
      {&Workspace::input, activation, rows, d},
      {&Workspace::qkv, activation, rows, q + 2 * kv},
      {&Workspace::attention, activation, tokens, q},
      {&Workspace::branch, residual, rows, d},
      {&Workspace::gate_up, activation, rows, 2 * ffn},
      {&Workspace::activated, activation, rows, ffn},
      {&Workspace::lm_head_residual, residual, outputs, d},
      {&Workspace::logits, DType::kF32, slots.LogitRows(), spec.vocab_size},
  };
}

}  // namespace

int64_t WorkspaceBytes(const ModelSpec& spec, const Device& device, const KvShape& kv,
                       const SlotShape& slots) {
  const DeviceInfo& info = device.Info();
  int64_t bytes = TakenBytes(info, device.AttendScratchBytes(kv, slots));
  for (const TensorPlan& plan : PlanTensors(spec, device, slots)) {
    bytes += TakenBytes(info, plan.Bytes());
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<Workspace>> MakeWorkspace(const ModelSpec& spec, Device& device,
                                                         const KvShape& kv,
                                                         const SlotShape& slots) {
  auto workspace = std::make_unique<Workspace>();
  bool refused = false;
  const auto allocate = [&](int64_t bytes) {
    Buffer buffer = device.Alloc(bytes);
    void* data = buffer.data();
    refused = refused || (data == nullptr && bytes > 0);
    workspace->buffers.push_back(std::move(buffer));
    return data;
  };
  for (const TensorPlan& plan : PlanTensors(spec, device, slots)) {
    (*workspace).*plan.tensor =
        DenseTensor(allocate(plan.Bytes()), plan.dtype, plan.rows, plan.cols);
  }
  workspace->attend_scratch = allocate(device.AttendScratchBytes(kv, slots));
  if (refused) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the device ", device.Info().name,
        " has no memory for the activations: ", WorkspaceBytes(spec, device, kv, slots),
        " bytes for steps of ", slots.max_step_tokens, " tokens"));
  }
  return workspace;
}

void BeginPart(Workspace& workspace) {
  workspace.part_begun.store(std::chrono::steady_clock::now().time_since_epoch().count(),
                             std::memory_order_relaxed);
}

}  // namespace baram
