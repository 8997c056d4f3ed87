// What every device does with a step's input: checks it, expands its rows into tokens and outputs,
// and lays out the arrays its view points to.
#ifndef BARAM_KERNELS_STEP_ROWS_H_
#define BARAM_KERNELS_STEP_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "kernels/check.h"
#include "kernels/step.h"

namespace baram {

// Abort if a delta violates the rules of step.h or the bounds of `shape`.
inline void CheckInit(const SlotInit& init, const SlotShape& shape) {
  Check(init.slot >= 0 && init.slot < shape.slots, "a SlotInit names a reserved slot");
  Check(init.bias.size() <= kMaxBiasedTokens, "a slot has at most kMaxBiasedTokens biases");
  Check(init.stop_ids.size() <= kMaxStopIds, "a slot has at most kMaxStopIds stop ids");
}
inline void CheckDelta(const PageDelta& delta, const SlotShape& shape) {
  Check(delta.slot >= 0 && delta.slot < shape.slots, "a PageDelta names a reserved slot");
  Check(delta.group >= 0 && delta.group < shape.groups, "a PageDelta names a reserved group");
  Check(delta.index >= 0 && delta.index < shape.max_pages_per_slot,
        "a PageDelta stays inside the slot's page table");
}

// For every row of `input`, in order, calls place(row, begin, tokens), where `begin` is the row's
// first token in the step and `tokens` its first in input.tokens, or -1 if it continues; then
// output(index, token, slot, target) for each of the row's outputs, `target` -1 where one is drawn.
// Aborts if the input violates the rules of step.h or the bounds of `shape`. Returns a view with
// its counts set and no arrays. Padding is counted, but not visited.
template <typename Place, typename Output>
StepView WalkRows(const StepInput& input, const SlotShape& shape, const Place& place,
                  const Output& output) {
  StepView view;
  size_t next_token = 0;
  size_t next_target = 0;
  const auto add_output = [&](const Row& row, int32_t token, int32_t target) {
    Check(view.outputs < shape.max_step_outputs, "a step stays within max_step_outputs");
    output(view.outputs++, token, row.slot, target);
  };
  for (const Row& row : input.rows) {
    Check(row.slot >= 0 && row.slot < shape.slots, "a Row names a reserved slot");
    Check(row.count > 0 && view.tokens + row.count <= shape.max_step_tokens,
          "a step stays within max_step_tokens");
    Check(!row.continues || row.count == 1, "a row that continues has one token");
    Check(row.continues || next_token + row.count <= input.tokens.size(),
          "every row that does not continue brings its tokens");
    place(row, view.tokens, row.continues ? int64_t{-1} : static_cast<int64_t>(next_token));
    if (!row.continues) next_token += row.count;
    Check(row.scores <= row.count && next_target + row.scores <= input.targets.size(),
          "a row scores at most its own tokens and brings their targets");
    for (int32_t i = 0; i < row.scores; ++i) {
      add_output(row, view.tokens + i, input.targets[next_target++]);
    }
    if (row.draws) add_output(row, view.tokens + row.count - 1, -1);
    view.tokens += row.count;
    ++view.rows;
  }
  view.live_outputs = view.outputs;
  if (input.padded_rows > 0) {
    Check(view.tokens == view.rows && view.outputs == view.rows && input.targets.empty(),
          "every row of a padded step is one token that is drawn from");
    Check(input.padded_rows >= view.rows && input.padded_rows <= shape.max_step_tokens &&
              input.padded_rows <= shape.max_step_outputs,
          "a padded step holds its rows and stays within the bounds of a step");
    view.tokens = view.outputs = input.padded_rows;
  }
  return view;
}

// The arrays that a StepView points to, see there.
struct StepArrays {
  int32_t* token_ids = nullptr;       // [max_step_tokens]
  int32_t* positions = nullptr;       // [max_step_tokens]
  int32_t* token_slots = nullptr;     // [max_step_tokens]
  int32_t* row_begin = nullptr;       // [max_step_tokens + 1]
  int32_t* row_slots = nullptr;       // [max_step_tokens]
  int32_t* output_tokens = nullptr;   // [max_step_outputs]
  int32_t* output_slots = nullptr;    // [max_step_outputs]
  int32_t* output_targets = nullptr;  // [max_step_outputs]
};

// Calls cut(array, count) for each array, to point it at memory for `count` elements.
template <typename Cut>
void CutArrays(const SlotShape& shape, const Cut& cut, StepArrays* arrays) {
  for (int32_t** array :
       {&arrays->token_ids, &arrays->positions, &arrays->token_slots, &arrays->row_slots}) {
    cut(array, int64_t{shape.max_step_tokens});
  }
  cut(&arrays->row_begin, int64_t{shape.max_step_tokens} + 1);
  for (int32_t** array : {&arrays->output_tokens, &arrays->output_slots, &arrays->output_targets}) {
    cut(array, int64_t{shape.max_step_outputs});
  }
}

// Points a view at the arrays. `page_tables`: [groups, slots, max_pages_per_slot].
inline void PointTo(const StepArrays& arrays, const int32_t* page_tables, const SlotShape& shape,
                    StepView* view) {
  view->token_ids = arrays.token_ids;
  view->positions = arrays.positions;
  view->token_slots = arrays.token_slots;
  view->row_begin = arrays.row_begin;
  view->row_slots = arrays.row_slots;
  view->output_tokens = arrays.output_tokens;
  view->output_slots = arrays.output_slots;
  view->output_targets = arrays.output_targets;
  for (int32_t group = 0; group < shape.groups; ++group) {
    view->page_tables[group] =
        page_tables + int64_t{group} * shape.slots * shape.max_pages_per_slot;
  }
  view->max_pages_per_slot = shape.max_pages_per_slot;
}

}  // namespace baram

#endif  // BARAM_KERNELS_STEP_ROWS_H_
