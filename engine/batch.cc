// Batch: collects a step's deltas and rows.
#include "engine/batch.h"

#include <algorithm>

namespace baram {

void Batch::Reserve(const SlotShape& shape, int32_t page_tokens) {
  const int32_t slots = shape.slots;
  inits_.reserve(slots);
  // Every row may begin a page in every group, and a page may have been replaced by a published
  // one. In addition, the whole tables of one sequence that is bound.
  const int32_t steady = 2 * (slots + shape.max_step_tokens / page_tokens + 1);
  deltas_.reserve(size_t{1} * shape.groups * (steady + shape.max_pages_per_slot));
  for (auto* rows : {&decodes_, &chunks_, &planned_}) rows->reserve(slots);
  rows_.reserve(slots);
  tokens_.reserve(shape.max_step_tokens);
  targets_.reserve(shape.max_step_tokens);
  results.resize(shape.max_step_outputs);
}

void Batch::Clear() {
  inits_.clear();
  deltas_.clear();
  for (auto* rows : {&decodes_, &chunks_, &planned_}) rows->clear();
  rows_.clear();
  tokens_.clear();
  targets_.clear();
  tokens_count_ = 0;
  outputs_ = 0;
  only_decodes_ = true;
  lost = false;
}

void Batch::Bind(const Sequence& sequence) {
  const Request& request = sequence.live->request;
  SlotInit init;
  init.slot = sequence.slot;
  init.length = sequence.planned;
  init.prompt_tokens = sequence.prompt_tokens;
  init.generated = sequence.output_tokens();
  init.sampling = request.sampling;
  init.sampling.output_index = sequence.index;
  // A device reports as many alternatives for the prompt as for the output; the outbox keeps as
  // many of each as were asked for.
  init.sampling.logprobs = std::max(init.sampling.logprobs, request.prompt_logprobs);
  if (request.sampling.NeedsCounts()) init.tokens = sequence.tokens;
  init.bias = request.logit_bias;
  if (request.sampling.min_tokens > sequence.output_tokens()) {
    init.stop_ids = request.masked_ids.empty() ? request.stop_ids : request.masked_ids;
  }
  inits_.push_back(init);
}

void Batch::UploadTables(Sequence& sequence) {
  for (size_t group = 0; group < sequence.tables.size(); ++group) {
    PageTable& table = sequence.tables[group];
    const int32_t blocks = static_cast<int32_t>(table.pages.size());
    for (int32_t block = std::max(table.uploaded, table.first); block < blocks; ++block) {
      deltas_.push_back({sequence.slot, static_cast<int32_t>(group), block, table.pages[block]});
    }
    table.uploaded = blocks;
  }
}

void Batch::AddRow(Sequence& sequence, int32_t count, int32_t scores, bool draws) {
  const Row row = {.slot = sequence.slot,
                   .count = count,
                   .continues = sequence.device_has_token,
                   .scores = scores,
                   .draws = draws};
  const auto next = sequence.tokens.begin() + sequence.planned;
  if (!row.continues) tokens_.insert(tokens_.end(), next, next + count);
  if (scores > 0) targets_.insert(targets_.end(), next + 1, next + 1 + scores);
  (row.continues ? decodes_ : chunks_).push_back({&sequence, sequence.planned, row});
  tokens_count_ += count;
  outputs_ += scores + (draws ? 1 : 0);
  only_decodes_ = only_decodes_ && count == 1 && scores == 0 && draws;
}

void Batch::Seal() {
  for (const auto* rows : {&decodes_, &chunks_}) {
    for (const PlannedRow& planned : *rows) {
      planned_.push_back(planned);
      rows_.push_back(planned.row);
    }
  }
}

StepInput Batch::Input() const {
  return {.inits = inits_,
          .page_deltas = deltas_,
          .rows = rows_,
          .tokens = tokens_,
          .targets = targets_};
}

}  // namespace baram
