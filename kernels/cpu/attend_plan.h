// Which units of work an Attend consists of. Pure: depends on the step, the shape and the number of
// workers alone.
//
// Query rows (a token and a head) that share a KV head and a sequence read the same keys, so a unit
// is a run of tokens of one sequence by some query heads of one KV head: at most kUnitRows query
// rows, which is two AMX tiles high. If a few runs hold most of the keys, they are split into
// shares of whole segments, each a run of its own. The sums of each segment go through memory, and
// a second op merges them. Splitting never changes the result: a query row's summation order
// depends on its position alone.
#ifndef BARAM_KERNELS_CPU_ATTEND_PLAN_H_
#define BARAM_KERNELS_CPU_ATTEND_PLAN_H_

#include <cstdint>

#include "kernels/cpu/jobs.h"
#include "kernels/ops.h"

namespace baram::cpu {

// Partials (of a segment and a token, with all heads) that a plan uses at most: 10 MB for 32 heads
// of 128. Enough to decode one sequence of 524,288 tokens, or for 8 tokens after 64,000.
inline constexpr int32_t kMaxPartials = 512;
// Runs that it splits at most: each has two segments or more.
inline constexpr int32_t kMaxSplitRuns = kMaxPartials / 2;

// Query heads of a unit at most, all of one KV head.
int32_t MaxHeadsPerUnit(const HeadShape& head);
// For `run_count` runs and `workers` workers: fewer heads if there would be fewer units than
// workers. A few short sequences of a model with few KV heads would otherwise leave most of them
// idle.
int32_t ChooseHeadsPerUnit(const HeadShape& head, int64_t run_count, int32_t workers);
// Tokens of a unit, at most.
int32_t TokensPerUnit(const HeadShape& head);

struct AttendPlan {
  int64_t run_count = 0;    // to compute: whole runs, and the shares of those that are split
  int64_t split_count = 0;  // to merge afterwards: the split runs, whole
};

// Cuts the step's rows into runs of at most TokensPerUnit(head) tokens, those with most keys first,
// so that the units taken last are short. `runs` has room for step.tokens + kMaxPartials,
// `split_runs` for kMaxSplitRuns.
AttendPlan PlanAttend(const StepView& step, const HeadShape& head, int32_t window, int32_t workers,
                      AttendRun* runs, AttendRun* split_runs);

// Units of the job: unit u is run u % run_count and head part u / run_count, so that neighbours
// read the same KV head.
int64_t AttendUnitCount(const HeadShape& head, int64_t run_count, int32_t heads_per_unit);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_ATTEND_PLAN_H_
