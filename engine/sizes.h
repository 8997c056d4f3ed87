// SizeEngine: how many pages and slots an engine gets on a machine, and how many tokens its steps.
// Used for opening and inspecting alike.
#ifndef BARAM_ENGINE_SIZES_H_
#define BARAM_ENGINE_SIZES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/model/kv_plan.h"
#include "engine/model/spec.h"
#include "kernels/device.h"

namespace baram {

// What is known about an engine before it is sized: the facts of its model and its device.
EngineInfo UnsizedInfo(const EngineConfig& config, const ModelSpec& spec, const Device& device);

struct EngineSizes {
  EngineInfo info;
  KvPlan plan;
  SlotShape slots;
  std::vector<int32_t> step_buckets;  // see StepBuckets; empty: no graphs
};

// The sizes of an engine with this configuration on this device, with zeros of `config` chosen for
// the machine and the model. FailedPrecondition: it does not fit; the message says what to change.
// InvalidArgument: the page size is invalid.
absl::StatusOr<EngineSizes> SizeEngine(const EngineConfig& config, const ModelSpec& spec,
                                       const Device& device);

// The size of LoadedModel::results_memory.
int64_t ResultBytes(const SlotShape& slots);

// The most pages that a sequence of `tokens` tokens holds, all groups together.
int64_t PagesForSequence(const KvPlan& plan, int64_t tokens, int32_t planning_depth);

}  // namespace baram

#endif  // BARAM_ENGINE_SIZES_H_
