// StepGraphs: the forward passes of decode steps as graphs of the device, one for each number of
// rows that steps are padded to.
//
// Issuing a step kernel by kernel costs the host about 2 us per kernel, which small models and
// small batches do not hide; a graph costs one call. Its launches have fixed shapes, so a step is
// padded to the next bucket. The first step of a bucket runs eagerly, which makes the device choose
// and load what it needs; the second is captured; from then on the graph runs. So start-up captures
// nothing, and nothing is captured that no step needs. If the device refuses a capture, the
// bucket's next step tries once more: the device may have another way.
#ifndef BARAM_ENGINE_STEP_GRAPHS_H_
#define BARAM_ENGINE_STEP_GRAPHS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/loaded_model.h"

namespace baram {

// The numbers of rows that decode steps of up to `max_rows` rows are padded to, ascending; the last
// is `max_rows`. 1, 2, 4, multiples of 8 up to 64, and eight per doubling beyond that, where
// padding is below an eighth of the rows: 27 buckets for 256 rows, 43 for 1024. Up to 64 rows
// padding is free: a product reads all weights for any number of rows that small, and attention
// does not see it.
std::vector<int32_t> StepBuckets(int32_t max_rows);

// An estimate of the memory of `device` that the graphs of all buckets take.
int64_t StepGraphBytes(const ModelSpec& spec, const Device& device,
                       const std::vector<int32_t>& buckets);

// Owned by a StepRunner, used by its thread. `model` must outlive it. Allocates only when it
// captures (exempt from I6).
class StepGraphs {
 public:
  explicit StepGraphs(LoadedModel& model);

  // StepInput::padded_rows for a step of `rows` rows, each one token that is drawn from; 0: the
  // step runs eagerly.
  int32_t PaddedRows(int32_t rows) const;
  // Issues the forward pass of the current step and returns what baram::Forward returns, including
  // the logits of padding. `is_padded`: the step's padded_rows was PaddedRows() and not 0.
  Tensor Forward(const StepView& step, bool is_padded);

  // Since construction.
  int64_t captures() const { return captures_; }
  int64_t replays() const { return replays_; }
  // Buckets whose capture the device refused for good.
  int64_t refusals() const { return std::ranges::count_if(buckets_, &Bucket::IsRefused); }

 private:
  static constexpr int32_t kMaxRefusals = 2;

  struct Bucket {
    int32_t rows = 0;
    bool ran = false;      // eagerly
    int32_t refusals = 0;  // captures that the device refused
    uint64_t graph = 0;    // 0: not captured
    Tensor logits = {};    // which the graph computes

    // It always runs eagerly from now on.
    bool IsRefused() const { return refusals == kMaxRefusals; }
  };

  Tensor RunEagerly(const StepView& step);
  // Captures the current step. Returns false if nothing of it was issued.
  bool Capture(const StepView& step, Bucket& bucket);

  LoadedModel& model_;
  std::vector<Bucket> buckets_;  // ascending; empty: steps run eagerly
  int64_t captures_ = 0;
  int64_t replays_ = 0;
};

}  // namespace baram

#endif  // BARAM_ENGINE_STEP_GRAPHS_H_
