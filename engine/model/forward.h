// The forward pass, written once for every model and device.
#ifndef BARAM_ENGINE_MODEL_FORWARD_H_
#define BARAM_ENGINE_MODEL_FORWARD_H_

#include "engine/model/kv_plan.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "kernels/device.h"

namespace baram {

// A model on a device. Owns nothing.
struct ModelView {
  Device& device;
  const Weights& weights;
  const KvPlan& plan;
  const KvPool& pool;
  Workspace& work;
};

// Runs the step's tokens through the model. Returns the logits [min(outputs, L), V] of its first
// outputs, where L is the rows of Workspace::logits: a view into the workspace that the next call
// overwrites. Called by the thread that uses the device; only issues ops, never waits.
Tensor Forward(const ModelView& model, const StepView& step);

// The logits of the at most L outputs from `begin` on, of the step that Forward ran last.
Tensor LogitsFrom(const ModelView& model, const StepView& step, int32_t begin);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_FORWARD_H_
