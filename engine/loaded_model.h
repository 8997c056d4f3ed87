// LoadedModel: a model with its memory on a device, ready to run steps.
#ifndef BARAM_ENGINE_LOADED_MODEL_H_
#define BARAM_ENGINE_LOADED_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/config.h"
#include "engine/model/forward.h"
#include "engine/model/kv_plan.h"
#include "engine/model/weights.h"
#include "engine/model/workspace.h"
#include "kernels/device.h"

namespace baram {

// In order of dependence: what is declared after `device` may use it, and is destroyed before it.
struct LoadedModel {
  EngineInfo info;
  std::unique_ptr<Device> device;
  std::unique_ptr<Weights> weights;
  KvPlan plan;
  SlotShape slots;
  Buffer pool_memory;
  KvPool pool;
  std::vector<int32_t> step_buckets;  // see StepBuckets; empty: no graphs
  Buffer results_memory;              // [max_step_outputs] TokenResult, in the device's memory
  std::unique_ptr<Workspace> workspace;
  int32_t valid_vocab = 0;

  ModelView View() const { return {*device, *weights, plan, pool, *workspace}; }
};

}  // namespace baram

#endif  // BARAM_ENGINE_LOADED_MODEL_H_
