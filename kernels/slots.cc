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
  for (auto* array : {&token_ids_, &positions_, &token_slots_, &row_slots_}) {
    array->assign(shape.max_step_tokens, 0);
  }
  row_begin_.assign(shape.max_step_tokens + 1, 0);
  for (auto* array : {&output_tokens_, &output_slots_, &output_targets_}) {
    array->assign(shape.max_step_outputs, 0);
  }
}

void SlotTable::Apply(const SlotInit& init) {
  Check(init.slot >= 0 && init.slot < shape_.slots, "a SlotInit names a reserved slot");
  Check(init.bias.size() <= kMaxBiasedTokens, "a slot has at most kMaxBiasedTokens biases");
  Check(init.stop_ids.size() <= kMaxStopIds, "a slot has at most kMaxStopIds stop ids");
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
  Check(delta.slot >= 0 && delta.slot < shape_.slots, "a PageDelta names a reserved slot");
  Check(delta.group >= 0 && delta.group < shape_.groups, "a PageDelta names a reserved group");
  Check(delta.index >= 0 && delta.index < shape_.max_pages_per_slot,
        "a PageDelta stays inside the slot's page table");
  const int64_t row = int64_t{delta.group} * shape_.slots + delta.slot;
  page_tables_[row * shape_.max_pages_per_slot + delta.index] = delta.page;
}

StepView SlotTable::BeginStep(const StepInput& input) {
  for (const SlotInit& init : input.inits) Apply(init);
  for (const PageDelta& delta : input.page_deltas) Apply(delta);

  int32_t next_row = 0;
  const auto place = [&](const Row& row, int32_t begin, int64_t tokens) {
    SlotState& state = states_[row.slot];
    row_begin_[next_row] = begin;
    row_slots_[next_row++] = row.slot;
    for (int32_t i = 0; i < row.count; ++i) {
      token_ids_[begin + i] = tokens < 0 ? state.last_token : input.tokens[tokens + i];
      positions_[begin + i] = state.length + i;
      token_slots_[begin + i] = row.slot;
    }
    state.length += row.count;
  };
  const auto output = [&](int32_t index, int32_t token, int32_t slot, int32_t target) {
    output_tokens_[index] = token;
    output_slots_[index] = slot;
    output_targets_[index] = target;
  };
  StepView view = WalkRows(input, shape_, place, output);
  int32_t padding = view.tokens - (view.outputs - view.live_outputs);
  row_begin_[view.rows] = padding;
  for (; padding < view.tokens; ++padding) {
    token_ids_[padding] = positions_[padding] = 0;
    token_slots_[padding] = -1;
    output(padding, padding, -1, -1);
  }

  view.token_ids = token_ids_.data();
  view.positions = positions_.data();
  view.token_slots = token_slots_.data();
  view.row_begin = row_begin_.data();
  view.row_slots = row_slots_.data();
  view.output_tokens = output_tokens_.data();
  view.output_slots = output_slots_.data();
  view.output_targets = output_targets_.data();
  for (int32_t group = 0; group < shape_.groups; ++group) {
    view.page_tables[group] =
        page_tables_.data() + int64_t{group} * shape_.slots * shape_.max_pages_per_slot;
  }
  view.max_pages_per_slot = shape_.max_pages_per_slot;
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
