// Lower bounds of one step: what a benchmark divides by.
#ifndef BARAM_ENGINE_MODEL_STEP_COST_H_
#define BARAM_ENGINE_MODEL_STEP_COST_H_

#include <cstdint>

#include "engine/model/spec.h"
#include "kernels/device.h"

namespace baram {

// Summed over the step's ops but Sample. `context_tokens` is the sum over the rows.
OpCost StepCost(const ModelSpec& spec, const Device& device, int64_t tokens, int64_t outputs,
                double context_tokens);

// The least of what no step can do without, in two parts that follow each other: its products read
// every weight once, attention the cache. Activations, which fit a cache, are in neither.
struct StepParts {
  OpCost products;
  OpCost attention;
};
StepParts LeastStepCost(const ModelSpec& spec, const Device& device, int64_t tokens,
                        int64_t outputs, double context_tokens);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_STEP_COST_H_
