// SlotTable: applies a step's deltas and expands its rows.
#include "kernels/slots.h"

#include <algorithm>
#include <new>

#include "kernels/check.h"
#include "kernels/step_rows.h"

namespace baram {

void SlotTable::Reserve(const SlotShape& shape) {
  Check(shape.groups <= kMaxKvGroups, "a device has at most kMaxKvGroups page tables per slot");
  shape_ = shape;
  const size_t slots = shape.slots;
  states_.assign(slots, {});
  bias_.assign(slots * kMaxBiasedTokens, {});
  stop_ids_.assign(slots * kMaxStopIds, 0);
  const size_t count_elements = std::max<size_t>(1, slots * shape.vocab_size);
  counts_.reset(static_cast<uint16_t*>(std::calloc(count_elements, sizeof(uint16_t))));
  if (counts_ == nullptr) throw std::bad_alloc();
  page_tables_.assign(slots * shape.groups * shape.max_pages_per_slot, -1);
  step_memory_.clear();
  const auto cut = [this](int32_t** array, int64_t count) {
    *array = step_memory_.emplace_back(count).data();
  };
  CutArrays(shape, cut, &step_);
}

int64_t SlotTable::Bytes(const SlotShape& shape) {
  const auto each =
      static_cast<int64_t>(sizeof(SlotState) + kMaxBiasedTokens * sizeof(TokenBias) +
                           kMaxStopIds * sizeof(int32_t) + shape.vocab_size * sizeof(uint16_t));
  return shape.slots * each + shape.TableEntries() * static_cast<int64_t>(sizeof(int32_t));
}

void SlotTable::Apply(const SlotInit& init) {
  CheckInit(init, shape_);
  TokenBias* bias = bias_.data() + int64_t{init.slot} * kMaxBiasedTokens;
  int32_t* stop_ids = stop_ids_.data() + int64_t{init.slot} * kMaxStopIds;
  std::copy(init.bias.begin(), init.bias.end(), bias);
  std::copy(init.stop_ids.begin(), init.stop_ids.end(), stop_ids);

  SlotState& state = states_[init.slot];
  state = {.length = init.length,
           .last_token = -1,
           .generated = init.generated,
           .sampling = init.sampling,
           .bias = {bias, init.bias.size()},
           .stop_ids = {stop_ids, init.stop_ids.size()},
           .counts = nullptr};
  if (init.sampling.NeedsCounts()) {
    uint16_t* counts = Counts(init.slot);
    std::fill_n(counts, shape_.vocab_size, uint16_t{0});
    state.counts = counts;
    for (size_t i = 0; i < init.tokens.size(); ++i) {
      const int32_t token = init.tokens[i];
      if (token < 0 || token >= shape_.vocab_size) continue;
      if (i < static_cast<size_t>(init.prompt_tokens)) {
        counts[token] |= kCountInPrompt;
      } else {
        CountOutput(init.slot, token);
      }
    }
  }

  for (int32_t group = 0; group < shape_.groups; ++group) {
    const int64_t row = int64_t{group} * shape_.slots + init.slot;
    std::fill_n(page_tables_.begin() + row * shape_.max_pages_per_slot, shape_.max_pages_per_slot,
                -1);
  }
}

void SlotTable::Apply(const PageDelta& delta) {
  CheckDelta(delta, shape_);
  const int64_t row = int64_t{delta.group} * shape_.slots + delta.slot;
  page_tables_[row * shape_.max_pages_per_slot + delta.index] = delta.page;
}

StepView SlotTable::BeginStep(const StepInput& input) {
  for (const SlotInit& init : input.inits) Apply(init);
  for (const PageDelta& delta : input.page_deltas) Apply(delta);

  int32_t next_row = 0;
  const auto place = [&](const Row& row, int32_t begin, int64_t tokens) {
    SlotState& state = states_[row.slot];
    step_.row_begin[next_row] = begin;
    step_.row_slots[next_row++] = row.slot;
    for (int32_t i = 0; i < row.count; ++i) {
      step_.token_ids[begin + i] = tokens < 0 ? state.last_token : input.tokens[tokens + i];
      step_.positions[begin + i] = state.length + i;
      step_.token_slots[begin + i] = row.slot;
    }
    state.length += row.count;
  };
  const auto output = [&](int32_t index, int32_t token, int32_t slot, int32_t target) {
    step_.output_tokens[index] = token;
    step_.output_slots[index] = slot;
    step_.output_targets[index] = target;
  };
  StepView view = WalkRows(input, shape_, place, output);
  int32_t padding = view.tokens - (view.outputs - view.live_outputs);
  step_.row_begin[view.rows] = padding;
  for (; padding < view.tokens; ++padding) {
    step_.token_ids[padding] = step_.positions[padding] = 0;
    step_.token_slots[padding] = -1;
    output(padding, padding, -1, -1);
  }
  PointTo(step_, page_tables_.data(), shape_, &view);
  return view;
}

void SlotTable::CountOutput(int32_t slot, int32_t token) {
  uint16_t& count = Counts(slot)[token];
  if ((count & kCountOutputs) != kCountOutputs) ++count;
}

void SlotTable::Draw(int32_t slot, int32_t token) {
  SlotState& state = states_[slot];
  state.last_token = token;
  ++state.generated;
  if (state.counts != nullptr && token >= 0 && token < shape_.vocab_size) CountOutput(slot, token);
}

}  // namespace baram
