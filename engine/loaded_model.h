// LoadedModel: a model with its memory on a device, ready to run steps. And how much of everything
// fits, which is decided here for opening and for inspecting alike.
#ifndef BARAM_ENGINE_LOADED_MODEL_H_
#define BARAM_ENGINE_LOADED_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/model/forward.h"
#include "engine/model/kv_plan.h"
#include "engine/model/spec.h"
#include "engine/model/weights.h"
#include "kernels/device.h"

namespace baram {

// Declared in order of dependence: the device goes last.
struct LoadedModel {
  EngineInfo info;
  std::unique_ptr<Device> device;
  std::unique_ptr<Weights> weights;
  KvPlan plan;
  SlotShape slots;
  Buffer pool_memory;
  KvPool pool;
  std::vector<int32_t> step_buckets;  // see StepBuckets; empty: no graphs
  Buffer results_memory;              // [max_step_outputs] TokenResult, the device's
  std::unique_ptr<Workspace> workspace;
  int32_t valid_vocab = 0;
  int32_t max_logit_rows = 0;
};

// What an engine with this configuration would be on this device: the zeros of `config` filled from
// the machine and the model. FailedPrecondition: it does not fit, and what to change.
struct EngineSizes {
  EngineInfo info;
  KvPlan plan;
  SlotShape slots;
  std::vector<int32_t> step_buckets;  // see StepBuckets; empty: no graphs
  int32_t max_logit_rows = 0;
};
absl::StatusOr<EngineSizes> SizeEngine(const EngineConfig& config, const ModelSpec& spec,
                                       const GenerationDefaults& defaults, const Device& device);

// The ids below it may be drawn.
int32_t DrawnIds(const EngineConfig& config, const ModelSpec& spec);

// Of LoadedModel::results_memory.
int64_t ResultBytes(const SlotShape& slots);

// Pages a sequence of `tokens` holds at most, all groups together.
int64_t PagesForSequence(const KvPlan& plan, int64_t tokens, int32_t planning_depth);

// Opens config.device, checks support (I12), loads config.model.
absl::StatusOr<std::unique_ptr<LoadedModel>> OpenModel(const EngineConfig& config);
// A model of random weights on a device that is already open: for benchmarks and tests.
absl::StatusOr<std::unique_ptr<LoadedModel>> OpenRandomModel(const EngineConfig& config,
                                                             const ModelSpec& spec,
                                                             std::unique_ptr<Device> device,
                                                             uint64_t seed);

}  // namespace baram

#endif  // BARAM_ENGINE_LOADED_MODEL_H_
