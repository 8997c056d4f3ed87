// Which units of work an Attend consists of. Pure: depends on the step, the shape and the number of
// workers alone.
//
// Query rows (a token and a head) that share a KV head and a sequence read the same keys, so a unit
// is a run of tokens of one sequence by some query heads of one KV head: at most kUnitRows query
// rows, which is two AMX tiles high. Where few runs have most of the keys, theirs are cut into
// shares of whole segments, a run each; the sums of every segment go through memory, and a second
// op merges them. No cut shows in the result: a query row's order of sums depends on its position
// alone.
#ifndef BARAM_KERNELS_CPU_ATTEND_PLAN_H_
#define BARAM_KERNELS_CPU_ATTEND_PLAN_H_

#include <cstdint>

#include "kernels/cpu/jobs.h"
#include "kernels/ops.h"

namespace baram::cpu {

// Partials (of a segment and a token, with all heads) that a plan uses at most: 10 MB for 32 heads
// of 128. A context of half a million tokens in decoding, 8 tokens after 64 thousand.
inline constexpr int32_t kMaxPartials = 512;
// Runs that it cuts, at most: each has two segments or more.
inline constexpr int32_t kMaxCutRuns = kMaxPartials / 2;

// Query heads of a unit at most, all of one KV head.
int32_t MaxHeadsPerUnit(const HeadShape& head);
// Of `run_count` runs for so many workers: fewer heads where there would be fewer units than
// workers. A few short sequences of a model with few KV heads would otherwise leave most of them
// idle.
int32_t ChooseHeadsPerUnit(const HeadShape& head, int64_t run_count, int32_t workers);
// Tokens of a unit, at most.
int32_t TokensPerUnit(const HeadShape& head);

struct AttendPlan {
  int64_t run_count = 0;  // what is to be computed: runs, and the shares of those that are cut
  int64_t cut_count = 0;  // the runs that are cut, whole: what is to be merged then
};

// Cuts the step's rows into runs of at most TokensPerUnit(head) tokens, those with most keys first,
// so that the last units to be taken are short. `runs` has room for step.tokens + kMaxPartials,
// `cut_runs` for kMaxCutRuns.
AttendPlan PlanAttend(const StepView& step, const HeadShape& head, int32_t window, int32_t workers,
                      AttendRun* runs, AttendRun* cut_runs);

// Units of the job: unit u is run u % run_count and head part u / run_count, so that neighbours
// read the same KV head.
int64_t AttendUnitCount(const HeadShape& head, int64_t run_count, int32_t heads_per_unit);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_ATTEND_PLAN_H_
