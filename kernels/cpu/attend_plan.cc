// PlanAttend: cuts rows into runs of tokens, and splits long ones by keys.
#include "kernels/cpu/attend_plan.h"

#include <algorithm>

#include "kernels/rounding.h"

namespace baram::cpu {
namespace {

// The first position that the run's first token sees.
int32_t FirstSeen(const AttendRun& run, int32_t window) {
  return window == 0 ? 0 : std::max(0, run.position - window + 1);
}

// Keys that the run reads.
int32_t KeysOf(const AttendRun& run, int32_t window) {
  const int32_t begin = std::max(FirstSeen(run, window), run.segment * kSegmentKeys);
  const int32_t end =
      std::min(run.position + run.count, (run.segment + run.segments) * kSegmentKeys);
  return end - begin;
}

void SortByKeys(int32_t window, AttendRun* runs, int64_t count) {
  std::sort(runs, runs + count, [window](const AttendRun& a, const AttendRun& b) {
    const int32_t keys_a = KeysOf(a, window), keys_b = KeysOf(b, window);
    if (keys_a != keys_b) return keys_a > keys_b;
    return a.token != b.token ? a.token < b.token : a.segment < b.segment;
  });
}

}  // namespace

int32_t MaxHeadsPerUnit(const HeadShape& head) {
  return std::min<int32_t>(head.heads / head.kv_heads, kUnitRows);
}

int32_t ChooseHeadsPerUnit(const HeadShape& head, int64_t run_count, int32_t workers) {
  const int64_t groups = std::max<int64_t>(1, run_count * head.kv_heads);
  // Never more units than workers: a second round would read the keys again.
  const int64_t parts = std::max<int64_t>(1, workers / groups);
  const int64_t fewest = CeilDivide(head.heads / head.kv_heads, parts);
  return static_cast<int32_t>(std::min<int64_t>(fewest, MaxHeadsPerUnit(head)));
}

int32_t TokensPerUnit(const HeadShape& head) { return kUnitRows / MaxHeadsPerUnit(head); }

AttendPlan PlanAttend(const StepView& step, const HeadShape& head, int32_t window, int32_t workers,
                      AttendRun* runs, AttendRun* split_runs) {
  const int32_t tokens_per_unit = TokensPerUnit(head);
  AttendPlan plan;
  int64_t segments = 0;
  for (int32_t row = 0; row < step.rows; ++row) {
    const int32_t end = step.row_begin[row + 1];
    for (int32_t token = step.row_begin[row]; token < end; token += tokens_per_unit) {
      AttendRun& run = runs[plan.run_count++];
      run = {.token = token,
             .count = std::min(tokens_per_unit, end - token),
             .slot = step.row_slots[row],
             .position = step.positions[token]};
      run.segment = FirstSeen(run, window) / kSegmentKeys;
      run.segments = (run.position + run.count - 1) / kSegmentKeys - run.segment + 1;
      segments += run.segments;
    }
  }
  SortByKeys(window, runs, plan.run_count);
  if (workers == 1) return plan;

  // A unit of more than half a worker's fair share may leave the others waiting.
  const int64_t most = std::max<int64_t>(1, segments * head.kv_heads / (2 * workers));
  int32_t partials = 0;
  for (int64_t i = 0, count = plan.run_count; i < count; ++i) {
    if (runs[i].segments <= most) continue;
    AttendRun whole = runs[i];
    // Shares average at least a segment of keys: workers with shorter ones would finish early, and
    // splitting by heads avoids that.
    const int64_t shares =
        std::min<int64_t>(CeilDivide(whole.segments, most), KeysOf(whole, window) / kSegmentKeys);
    if (shares < 2 || whole.segments * whole.count > kMaxPartials - partials) continue;
    whole.partial = partials;
    partials += whole.segments * whole.count;
    split_runs[plan.split_count++] = whole;
    for (int64_t share = 0; share < shares; ++share) {
      const auto begin = static_cast<int32_t>(share * whole.segments / shares);
      const auto end = static_cast<int32_t>((share + 1) * whole.segments / shares);
      AttendRun part = whole;
      part.segment += begin;
      part.segments = end - begin;
      part.partial += begin * whole.count;
      runs[share == 0 ? i : plan.run_count++] = part;
    }
  }
  if (plan.split_count > 0) SortByKeys(window, runs, plan.run_count);
  return plan;
}

int64_t AttendUnitCount(const HeadShape& head, int64_t run_count, int32_t heads_per_unit) {
  const int32_t group = head.heads / head.kv_heads;
  return run_count * head.kv_heads * CeilDivide(group, heads_per_unit);
}

}  // namespace baram::cpu
