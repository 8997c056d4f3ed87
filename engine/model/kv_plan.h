// KvPlan: how a model's layers share KV pages. Layers with the same window form one kind; kinds are
// split into groups of equal layer count (the last one padded), so that one page size fits all.
#ifndef BARAM_ENGINE_MODEL_KV_PLAN_H_
#define BARAM_ENGINE_MODEL_KV_PLAN_H_

#include <cstdint>
#include <vector>

#include "engine/model/spec.h"
#include "kernels/ops.h"

namespace baram {

struct KvPlan {
  KvShape shape;                 // of every page
  std::vector<int32_t> windows;  // [groups]; 0: pages live as long as the sequence
  std::vector<KvLayer> layers;   // [spec.layers.size()]

  int32_t groups() const { return static_cast<int32_t>(windows.size()); }  // at most kMaxKvGroups
};

// Chooses the layers per group that minimize what a sequence of the model's whole context holds,
// with at most kMaxKvGroups groups.
KvPlan PlanKv(const ModelSpec& spec, int32_t page_tokens);

// KV bytes that one more token of a long sequence costs on a device with this page size.
double KvBytesPerToken(const KvPlan& plan, int64_t page_bytes);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_KV_PLAN_H_
