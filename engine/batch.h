// Batch: one step, from Plan over the device back to Commit. Reused; allocates nothing but where
// the page tables of several sequences are uploaded whole in one step, see Reserve.
//
// The engine thread fills it and reads its results, the executor uploads it; a queue hands it over.
#ifndef BARAM_ENGINE_BATCH_H_
#define BARAM_ENGINE_BATCH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "kernels/device.h"
#include "kernels/step.h"

namespace baram {

// What Commit must know of a row.
struct PlannedRow {
  Sequence* sequence = nullptr;
  int32_t begin = 0;  // position of its first token
  Row row;
};

class Batch {
 public:
  // For any step in which one sequence, of any length, is bound to its slot with what it has in the
  // cache. A step that binds more of them may allocate once more; what it took is kept.
  void Reserve(const SlotShape& shape, int32_t page_tokens);
  void Clear();
  bool empty() const { return decodes_.empty() && chunks_.empty(); }

  // Binds the sequence to its slot; UploadTables must follow.
  void Bind(const Sequence& sequence);
  // The pages the device's tables lack.
  void UploadTables(Sequence& sequence);
  // The next `count` tokens of the sequence, `scores` of them scored; advances nothing.
  void AddRow(Sequence& sequence, int32_t count, int32_t scores, bool draws);

  // After the last row: puts the rows that continue first.
  void Seal();
  // Of a sealed batch; valid until Clear.
  StepInput Input() const;
  // Planned rows, in the order of Input.
  std::span<const PlannedRow> planned() const { return planned_; }
  int32_t tokens() const { return tokens_count_; }
  int32_t outputs() const { return outputs_; }
  // Every row is one token that is drawn from and not scored.
  bool only_decodes() const { return only_decodes_; }

  std::vector<TokenResult> results;  // [outputs], written by the executor
  uint64_t mark = 0;                 // of the device, after the results' download
  bool lost = false;                 // the device did not finish it
  // Written by the executor: the time on the device, of a synchronous one by the host's clock; and
  // whether the step before was still in flight when this one was issued, so that the gap between
  // the two was the device's waiting for its host and not for work.
  StepTime time = {};
  bool follows = false;
  SteadyTime planned_at{};

 private:
  std::vector<SlotInit> inits_;
  std::vector<PageDelta> deltas_;
  std::vector<PlannedRow> decodes_, chunks_;  // rows that continue, and the others
  std::vector<int32_t> tokens_, targets_;
  std::vector<PlannedRow> planned_;  // by Seal: both, and their rows
  std::vector<Row> rows_;
  int32_t tokens_count_ = 0;
  int32_t outputs_ = 0;
  bool only_decodes_ = true;
};

}  // namespace baram

#endif  // BARAM_ENGINE_BATCH_H_
