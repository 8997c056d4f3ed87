// StepGraphs: buckets, and when their graphs are captured and run.
#include "engine/step_graphs.h"

#include <algorithm>
#include <bit>

#include "engine/model/step_cost.h"
#include "kernels/check.h"

namespace baram {
namespace {

constexpr int32_t kFineRows = 64;       // up to this many padding is free
constexpr int32_t kFineStep = 8;        // and buckets are multiples of this
constexpr int32_t kStepsADoubling = 8;  // beyond kFineRows

// Estimates, on the high side: too low an estimate means a refused capture, or a kernel that can't
// be loaded, under load; too high an estimate costs a few pages of cache. A kernel node needs its
// parameters, for which CUDA has room of 4 KiB, its launch descriptor and its part of the commands
// that start it; a graph also needs at least one of the driver's pages of 2 MiB. Other engines
// report several MB per graph for models of some 30 layers; this is 5.6 MB for 32.
// tests/gpu/check.sh prints what was used.
constexpr int64_t kNodeBytes = 8 << 10;
constexpr int64_t kGraphBytes = 2 << 20;
// A product may take a second kernel, which adds up its parts.
constexpr int64_t kProductNodes = 2;

}  // namespace

std::vector<int32_t> StepBuckets(int32_t max_rows) {
  std::vector<int32_t> buckets;
  int32_t rows = 1;
  while (rows < max_rows) {
    buckets.push_back(rows);
    if (rows < kFineStep) {
      rows *= 2;
    } else if (rows < kFineRows) {
      rows += kFineStep;
    } else {
      rows += static_cast<int32_t>(std::bit_floor(static_cast<uint32_t>(rows))) / kStepsADoubling;
    }
  }
  if (max_rows > 0) buckets.push_back(max_rows);
  return buckets;
}

int64_t StepGraphBytes(const ModelSpec& spec, const Device& device,
                       const std::vector<int32_t>& buckets) {
  const StepOps ops = CountOps(spec, device);
  const int64_t nodes = ops.products * kProductNodes + ops.others;
  return std::ssize(buckets) * (kGraphBytes + nodes * kNodeBytes);
}

StepGraphs::StepGraphs(LoadedModel& model) : model_(model) {
  for (const int32_t rows : model.step_buckets) buckets_.push_back({.rows = rows});
}

int32_t StepGraphs::PaddedRows(int32_t rows) const {
  const auto bucket = std::ranges::lower_bound(buckets_, rows, {}, &Bucket::rows);
  return rows == 0 || bucket == buckets_.end() || bucket->IsRefused() ? 0 : bucket->rows;
}

Tensor StepGraphs::Forward(const StepView& step, bool is_padded) {
  if (!is_padded) return RunEagerly(step);
  const auto found = std::ranges::lower_bound(buckets_, step.tokens, {}, &Bucket::rows);
  Check(found != buckets_.end() && found->rows == step.tokens, "a padded step fills its bucket");
  Bucket& bucket = *found;
  if (!bucket.ran) {
    bucket.ran = true;
    return RunEagerly(step);
  }
  if (bucket.graph == 0 && !Capture(step, bucket)) {
    ++bucket.refusals;
    return RunEagerly(step);
  }
  BeginPart(*model_.workspace);  // of all layers together
  model_.device->Replay(bucket.graph);
  ++replays_;
  return bucket.logits;
}

Tensor StepGraphs::RunEagerly(const StepView& step) { return baram::Forward(model_.View(), step); }

bool StepGraphs::Capture(const StepView& step, Bucket& bucket) {
  if (!model_.device->BeginCapture()) return false;
  bucket.logits = RunEagerly(step);
  bucket.graph = model_.device->EndCapture();
  if (bucket.graph != 0) ++captures_;
  return bucket.graph != 0;
}

}  // namespace baram
