// Batch: one step, from Plan through the device back to Commit. Reused; allocates only if one step
// uploads the whole page tables of several sequences, see Reserve.
//
// The engine thread fills it and reads its results, the executor uploads it; queues pass it between
// them.
#ifndef BARAM_ENGINE_BATCH_H_
#define BARAM_ENGINE_BATCH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "kernels/device.h"
#include "kernels/step.h"

namespace baram {

// What Commit needs to know about a row.
struct PlannedRow {
  Sequence* sequence = nullptr;
  int32_t begin = 0;  // position of its first token
  Row row;
};

class Batch {
 public:
  // Reserves memory for any step that binds one sequence, of any length, to its slot with its
  // cached prefix. A step that binds more of them may allocate once more; that memory is kept.
  void Reserve(const SlotShape& shape, int32_t page_tokens);
  void Clear();
  bool empty() const { return decodes_.empty() && chunks_.empty(); }

  // Binds the sequence to its slot; UploadTables must follow.
  void Bind(const Sequence& sequence);
  // Adds the pages that the device's tables lack.
  void UploadTables(Sequence& sequence);
  // Adds a row of the next `count` tokens of the sequence, `scores` of them scored; does not
  // advance the sequence.
  void AddRow(Sequence& sequence, int32_t count, int32_t scores, bool draws);

  // Call after the last row: puts the rows that continue (Row::continues) first.
  void Seal();
  // Of a sealed batch; valid until Clear.
  StepInput Input() const;
  // Planned rows, in the order of Input.
  std::span<const PlannedRow> planned() const { return planned_; }
  int32_t tokens() const { return tokens_count_; }
  int32_t outputs() const { return outputs_; }
  // Whether every row is one token that is drawn from and not scored.
  bool only_decodes() const { return only_decodes_; }

  std::vector<TokenResult> results;  // [outputs], written by the executor
  uint64_t mark = 0;                 // Device::Record() after the download of the results
  bool lost = false;                 // the device did not finish it
  // Written by the executor. `time`: on the device; by the host's clock if the device is
  // synchronous. `follows`: the previous step was still in flight when this one was issued, so in
  // the gap between the two the device waited for its host and not for work.
  StepTime time = {};
  bool follows = false;
  SteadyTime planned_at{};

 private:
  std::vector<SlotInit> inits_;
  std::vector<PageDelta> deltas_;
  std::vector<PlannedRow> decodes_, chunks_;  // rows that continue, and the others
  std::vector<int32_t> tokens_, targets_;
  std::vector<PlannedRow> planned_;  // set by Seal: both of them, and their rows
  std::vector<Row> rows_;
  int32_t tokens_count_ = 0;
  int32_t outputs_ = 0;
  bool only_decodes_ = true;
};

}  // namespace baram

#endif  // BARAM_ENGINE_BATCH_H_
