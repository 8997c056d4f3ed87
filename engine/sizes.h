// SizeEngine: how many pages, slots and tokens of an engine fit a machine. Decided here for opening
// and for inspecting alike.
#ifndef BARAM_ENGINE_SIZES_H_
#define BARAM_ENGINE_SIZES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/model/generation_defaults.h"
#include "engine/model/kv_plan.h"
#include "engine/model/spec.h"
#include "kernels/device.h"

namespace baram {

// What is known of an engine before it is sized: of its model and its device.
EngineInfo DescribeModel(const EngineConfig& config, const ModelSpec& spec,
                         const GenerationDefaults& defaults, const Device& device);

struct EngineSizes {
  EngineInfo info;
  KvPlan plan;
  SlotShape slots;
  std::vector<int32_t> step_buckets;  // see StepBuckets; empty: no graphs
  int32_t max_logit_rows = 0;
};

// What an engine with this configuration would be on this device: the zeros of `config` filled from
// the machine and the model. FailedPrecondition: it does not fit, and what to change.
absl::StatusOr<EngineSizes> SizeEngine(const EngineConfig& config, const ModelSpec& spec,
                                       const GenerationDefaults& defaults, const Device& device);

// The ids below it may be drawn.
int32_t DrawnIds(const EngineConfig& config, const ModelSpec& spec);

// The size of LoadedModel::results_memory.
int64_t ResultBytes(const SlotShape& slots);

// Pages a sequence of `tokens` holds at most, all groups together.
int64_t PagesForSequence(const KvPlan& plan, int64_t tokens, int32_t planning_depth);

}  // namespace baram

#endif  // BARAM_ENGINE_SIZES_H_
