// How a GEMM is cut, and the measurements behind the choices.
#include "kernels/cpu/gemm_select.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/pack.h"
#include "kernels/rounding.h"

namespace baram::cpu {
namespace {

// How rows and columns of `a` are cut into chunks and blocks, and how many panels a worker takes at
// a time. The values for AMX tiles were measured on A, whose cores have 48 KiB of L1 and 2 MiB of
// L2.
struct Blocking {
  int64_t chunk_rows;
  int64_t block_k;
  int64_t panels;
  int64_t tasks_per_worker;  // several balance workers of unequal speed
  int64_t task_cost;         // overhead of a task, in panels
};
// A block of the weights of two panels, 16 KiB, stays in L1 while the rows stream through. L2 holds
// two blocks of `a`, 512 KiB, and the accumulators, 512 KiB; about 1.3 MiB stay in L2 whatever
// streams through it. Relative speeds of other choices at 512 rows, k = 2048 and n = 8192:
//   blocks of 128  0.86    192  0.96    512  0.86    2048  0.64
//   panels of   8  0.89     24  0.99     32  0.91
//   chunks of 256  0.94: the weights are read twice
// On the number of panels: `a` is read once per task, since each of its blocks evicts the previous
// one from L2. The 0.89 of 8 panels corresponds to an overhead of two panels per task.
//
// Of the time of a step in the kernel, the products take 0.54, with operands in L1. With all
// operands in L2 the step takes 0.74; those from farther away, 2 lines of weights and 4 of `a`,
// cost 0.08 and 0.11, and writing the results 0.08. Packing and barriers are not included.
constexpr Blocking kMany = {512, 256, 16, 2, 2};
// Bound by the bytes of the weights, which stream most evenly in short blocks: blocks of 256 are
// 0.94 to 0.96 times as fast, blocks of 512 0.86 to 0.9 times.
constexpr Blocking kSome = {96, 128, 16, 4, 0};
// With one row tile the kernel waits only for memory, and reads two panels as two streams: decode
// of one sequence is 1.03 times as fast as with blocks of 128.
constexpr Blocking kFew = {16, 2048, 16, 4, 0};
// For lanes. 128 rows of 2048 columns are 1 MiB in fp32, which stays in L2. Longer rows are
// multiplied one block at a time: 1.1 to 1.3 times as fast with AVX-512 on a Xeon whose AMX is
// hidden, no faster with AVX2. Twice as many rows measured 0.95 times as fast (C).
constexpr Blocking kLanes = {128, 2048, 16, 4, 0};

constexpr bool FitsScratch(bool tiles, const Blocking& blocking) {
  return SumBytes(tiles, blocking.chunk_rows, blocking.panels) <= kWorkerScratchBytes;
}
static_assert(FitsScratch(true, kMany) && FitsScratch(true, kSome) && FitsScratch(true, kFew) &&
              FitsScratch(false, kLanes));

// Results larger than this are evicted from L2 before they are read. Writing them past the caches
// saves reading their lines first: measured 1.1 to 1.4 times as fast at 512 rows (A).
constexpr int64_t kStreamOutBytes = int64_t{1} << 20;

// Bytes of weights that a worker takes at a time when the weights are the bound: long enough to
// stream, short enough that workers finish together.
constexpr int64_t kStreamTaskBytes = int64_t{512} << 10;

// The tolerated loss from workers that idle while the last ones finish: up to 1/33, 3 %, tasks keep
// the measured size, and another size must gain more than that.
constexpr int64_t kLossPart = 33;

// When the last of `workers` equally fast workers finishes, in panels.
int64_t Makespan(int64_t panels, int64_t panels_per_task, int64_t task_cost, int64_t workers) {
  const int64_t whole = panels / panels_per_task;
  const int64_t rest = RoundUp(panels % panels_per_task, 2);  // a single panel costs as a pair
  const int64_t each = panels_per_task + task_cost;
  // The short task is taken last: only if it is alone in its round does it shorten the round.
  if (rest > 0 && whole % workers == 0) return whole / workers * each + rest + task_cost;
  return CeilDivide(whole + (rest > 0 ? 1 : 0), workers) * each;
}

// Returns `panels_per_task`, or another even number of at most `largest` if workers would idle at
// the end: of 384 panels in tasks of 4, 60 workers take 240, and then only 36 of them the rest.
int64_t EvenOut(int64_t panels, int64_t panels_per_task, int64_t largest, int64_t task_cost,
                int64_t workers) {
  const int64_t even = Makespan(panels, panels_per_task, 0, workers);
  if ((even - even / kLossPart) * workers <= panels) return panels_per_task;
  const int64_t before = Makespan(panels, panels_per_task, task_cost, workers);
  int64_t chosen = panels_per_task, least = before - before / kLossPart;
  // Among equal makespans, the next size below panels_per_task: smaller tasks also balance workers
  // of unequal speed.
  for (int64_t other = 2; other <= largest; other += 2) {
    const int64_t makespan = Makespan(panels, other, task_cost, workers);
    if (makespan > least || (makespan == least && other > panels_per_task)) continue;
    chosen = other;
    least = makespan;
  }
  return chosen;
}

}  // namespace

GemmPlan SelectGemm(int64_t rows, int64_t n, int64_t padded_k, const GemmForm& form,
                    int32_t workers) {
  GemmPlan plan;
  const int64_t rows_that_fit = kGemmScratchBytes / (padded_k * form.element_bytes) / 32 * 32;
  Check(padded_k <= kMaxGemmK, "the GEMM's scratch holds 32 rows of a");
  // Chunks of nearly equal size: a short last one would pay for all the weights alone.
  const Blocking blocking = !form.tiles               ? kLanes
                            : rows > kSome.chunk_rows ? kMany
                            : rows > kFew.chunk_rows  ? kSome
                                                      : kFew;
  const int64_t chunks = CeilDivide(rows, std::min(blocking.chunk_rows, rows_that_fit));
  plan.chunk_rows = chunks == 1 ? rows : RoundUp(CeilDivide(rows, chunks), 32);
  plan.block_k = std::min(padded_k, blocking.block_k);
  plan.stream_out = form.tiles && rows * n * 2 > kStreamOutBytes;

  const int64_t panels = CeilDivide(n, kPanelColumns);
  int64_t largest = blocking.panels;
  if (plan.chunk_rows <= 32) {
    largest = std::clamp(kStreamTaskBytes / PanelBytes(padded_k), int64_t{2}, blocking.panels);
  }
  const int64_t even_share = panels / (workers * blocking.tasks_per_worker);
  // Kernels work on pairs of panels.
  const int64_t share = std::clamp(even_share, int64_t{2}, largest) / 2 * 2;
  plan.panels_per_task = EvenOut(panels, share, largest, blocking.task_cost, workers);
  return plan;
}

std::string ToString(const GemmPlan& plan) {
  return std::to_string(plan.chunk_rows) + " x " + std::to_string(plan.block_k) + ", " +
         std::to_string(plan.panels_per_task) + " panels" + (plan.stream_out ? ", streamed" : "");
}

}  // namespace baram::cpu
