// TraceStep: one step of a model on the trace device, for the support check and the costs.
#ifndef BARAM_ENGINE_MODEL_TRACE_STEP_H_
#define BARAM_ENGINE_MODEL_TRACE_STEP_H_

#include <cstdint>

#include "engine/model/spec.h"
#include "kernels/trace/trace_device.h"

namespace baram {

struct TracedStep {
  StepView step;
  Tensor logits;  // [outputs, V]; its address points to no memory
};

// Runs Forward for a step of `tokens` tokens in as many rows as there are outputs, at least one.
// `page_tokens` 0: the device's choice.
TracedStep TraceStep(const ModelSpec& spec, int32_t page_tokens, int32_t tokens, int32_t outputs,
                     TraceDevice& trace);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_TRACE_STEP_H_
