// What one step runs, and lower bounds of its cost: what a benchmark divides by.
#ifndef BARAM_ENGINE_MODEL_STEP_COST_H_
#define BARAM_ENGINE_MODEL_STEP_COST_H_

#include <cstdint>

#include "engine/model/spec.h"
#include "kernels/device.h"

namespace baram {

// The ops of a step of one token, except Sample.
struct StepOps {
  int64_t products = 0;  // Gemm
  int64_t others = 0;
};
StepOps CountOps(const ModelSpec& spec, const Device& device);

// Summed over the step's ops except Sample. `context_tokens` as for CostOf, of a layer without a
// window.
OpCost StepCost(const ModelSpec& spec, const Device& device, int64_t tokens, int64_t outputs,
                double context_tokens);

// The least that every step costs, in two parts that follow each other: the products read every
// weight once, attention reads the cache. Activations, which fit into a CPU's cache, are in
// neither.
struct StepParts {
  OpCost products;
  OpCost attention;
};
StepParts LeastStepCost(const ModelSpec& spec, const Device& device, int64_t tokens,
                        int64_t outputs, double context_tokens);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_STEP_COST_H_
