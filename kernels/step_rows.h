// The rows of a step, checked and cut into tokens and outputs: once for every device.
#ifndef BARAM_KERNELS_STEP_ROWS_H_
#define BARAM_KERNELS_STEP_ROWS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/check.h"
#include "kernels/step.h"

namespace baram {

// For every row of `input`, in order, calls place(row, begin, tokens), where `begin` is the row's
// first token in the step and `tokens` its first in input.tokens, or -1 if it continues; then
// output(index, token, slot, target) for each of the row's outputs, `target` -1 where one is drawn.
// Dies where the input breaks the rules of step.h or the bounds of `shape`. Returns how many
// tokens, rows and outputs there are, padding included, without arrays; padding is not visited.
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

}  // namespace baram

#endif  // BARAM_KERNELS_STEP_ROWS_H_
