// The forward pass, written once for every model and device.
#ifndef BARAM_ENGINE_MODEL_FORWARD_H_
#define BARAM_ENGINE_MODEL_FORWARD_H_

#include "engine/model/kv_plan.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "kernels/device.h"

namespace baram {

// Runs the step's tokens through the model and leaves logits [outputs, V] in `workspace`.
// Called by the executor thread; issues ops only, never waits.
Tensor Forward(Device& device, const Weights& weights, const KvPlan& plan, const KvPool& pool,
               const StepView& step, Workspace& workspace);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_FORWARD_H_
