// Which units of work an Attend consists of. Pure: depends on the step, the shape and the number of
// workers alone.
//
// Query rows (a token and a head) that share a KV head and a sequence read the same keys, so a unit
// is a run of tokens of one sequence by some query heads of one KV head: at most kUnitRows query
// rows, which is two AMX tiles high. The cut never shows in the result: a query row's order of sums
// depends on its position alone.
#ifndef BARAM_KERNELS_CPU_ATTEND_PLAN_H_
#define BARAM_KERNELS_CPU_ATTEND_PLAN_H_

#include <cstdint>

#include "kernels/cpu/jobs.h"
#include "kernels/ops.h"

namespace baram::cpu {

// Query heads of a unit at most, all of one KV head.
int32_t HeadsPerUnit(const HeadShape& head);
// Of `run_count` runs for so many workers: fewer heads where there would be fewer units than
// workers. A few sequences of a model with few KV heads would otherwise leave most of them idle.
int32_t HeadsPerUnit(const HeadShape& head, int64_t run_count, int32_t workers);
// Tokens of a unit, at most.
int32_t TokensPerUnit(const HeadShape& head);

// Cuts the step's rows into runs of at most `tokens_per_unit` tokens, those with most keys first,
// so that the last units to be taken are short. `runs` has room for step.tokens; returns how many.
int64_t PlanAttend(const StepView& step, int32_t tokens_per_unit, int32_t window, AttendRun* runs);

// Units of the job: unit u is run u % run_count and head part u / run_count, so that neighbours
// read the same KV head.
int64_t AttendUnits(const HeadShape& head, int64_t run_count, int32_t heads_per_unit);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_ATTEND_PLAN_H_
