// PlanAttend: cuts rows into runs of tokens.
#include "kernels/cpu/attend_plan.h"

#include <algorithm>

#include "kernels/rounding.h"

namespace baram::cpu {

int32_t HeadsPerUnit(const HeadShape& head) {
  return std::min<int32_t>(head.heads / head.kv_heads, kUnitRows);
}

int32_t HeadsPerUnit(const HeadShape& head, int64_t run_count, int32_t workers) {
  const int64_t groups = std::max<int64_t>(1, run_count * head.kv_heads);
  // Never more units than workers: a second round would read the keys again.
  const int64_t parts = std::max<int64_t>(1, workers / groups);
  const int64_t fewest = CeilDivide(head.heads / head.kv_heads, parts);
  return static_cast<int32_t>(std::min<int64_t>(fewest, HeadsPerUnit(head)));
}

int32_t TokensPerUnit(const HeadShape& head) { return kUnitRows / HeadsPerUnit(head); }

int64_t PlanAttend(const StepView& step, int32_t tokens_per_unit, int32_t window, AttendRun* runs) {
  int64_t count = 0;
  for (int32_t row = 0; row < step.rows; ++row) {
    const int32_t end = step.row_begin[row + 1];
    for (int32_t token = step.row_begin[row]; token < end; token += tokens_per_unit) {
      runs[count++] = {.token = token,
                       .count = std::min(tokens_per_unit, end - token),
                       .slot = step.row_slots[row],
                       .position = step.positions[token]};
    }
  }
  const auto keys = [window](const AttendRun& run) {
    const int32_t last = run.position + run.count;
    return window == 0 ? last : std::min(last, window);
  };
  std::sort(runs, runs + count, [&](const AttendRun& a, const AttendRun& b) {
    return keys(a) != keys(b) ? keys(a) > keys(b) : a.token < b.token;
  });
  return count;
}

int64_t AttendUnits(const HeadShape& head, int64_t run_count, int32_t heads_per_unit) {
  const int32_t group = head.heads / head.kv_heads;
  return run_count * head.kv_heads * CeilDivide(group, heads_per_unit);
}

}  // namespace baram::cpu
