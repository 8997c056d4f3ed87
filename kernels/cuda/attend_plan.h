// How an Attend is split into work for the blocks of a GPU: a pure function of the step's rows, the
// heads, the window and a few facts of the device.
//
// Three kernels divide the rows of a step by how many query rows (a token and a head) read the same
// keys. For each kernel the keys of all its rows, concatenated, are cut into as many equal shares
// as the GPU holds blocks of threads per KV head. A share may end in the middle of a sequence, so a
// long context, among short ones or alone, fills the GPU as well. The block that finishes last
// merges the parts of a cut tile: attend_merge.h.
//
// The launch shape depends only on the heads and the device, never on lengths, so that a captured
// graph can be replayed with another plan.
#ifndef BARAM_KERNELS_CUDA_ATTEND_PLAN_H_
#define BARAM_KERNELS_CUDA_ATTEND_PLAN_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/slot_arrays.h"
#include "kernels/ops.h"

namespace baram::cuda {

// Keys that a block of threads processes at a time. Blocks of keys begin at multiples of it.
inline constexpr int32_t kKeyBlock = 64;
// The maximum number of blocks per launch; each may need a counter, see attend_merge.h. Enough for
// six on each of 170 multiprocessors.
inline constexpr int32_t kMaxAttendBlocks = 1024;

enum class AttendKernel : uint8_t {
  kVector,  // up to 2 query rows, on the fp32 cores
  kNarrow,  // up to 16, the height of a tensor-core tile: the warps of a block divide the keys
  kWide,    // tiles of 64: the warps of a block divide the rows
};
inline constexpr int kAttendKernels = 3;

// What a plan depends on besides the step's rows.
struct AttendKind {
  HeadShape head;
  int32_t window = 0;  // 0: none
  bool operator==(const AttendKind&) const = default;
};
struct AttendDevice {
  int32_t multiprocessors = 0;
  // The most that a block may request, all that the blocks of a multiprocessor share but 1 KiB.
  int64_t shared_bytes_per_block = 0;
};

// How one kernel divides the heads. A unit is the part of a piece that one block computes: some
// query heads of one KV head. Query row r of a unit is token r / heads, head r % heads.
struct AttendTiling {
  int32_t heads = 1;   // of a unit; the last unit of a KV head may have fewer
  int32_t tokens = 1;  // of a tile
  int32_t units = 1;   // of a piece: the grid's x
  int32_t shares = 1;  // of the keys: the grid's y
};
AttendTiling TilingOf(AttendKernel kernel, const HeadShape& head, const AttendDevice& device);
// Which kernel computes a row of `count` tokens.
AttendKernel KernelFor(int32_t count, const HeadShape& head);

// Elements of a head in shared memory: a power of two, at least 32 for kVector, at least 64
// otherwise.
int32_t AttendDepth(AttendKernel kernel, int32_t head_dim);
// Blocks of threads that a multiprocessor's registers hold at once, which the kernels' launch
// bounds make the compiler guarantee. Shared memory may allow fewer.
constexpr int32_t AttendResidentBlocks(AttendKernel kernel, int32_t depth) {
  switch (kernel) {
    case AttendKernel::kVector:
      return depth <= 64 ? 6 : 4;
    case AttendKernel::kNarrow:
      return depth <= 64 ? 4 : depth <= 128 ? 3 : 2;
    case AttendKernel::kWide:
      return 2;
  }
  return 1;
}
// Shared memory per block, all of it dynamic. A device that offers less supports no such heads.
int64_t AttendSharedBytes(AttendKernel kernel, int32_t head_dim);

// What a block processes at a time: a tile of query tokens and a part of the keys they see.
struct AttendPiece {
  int32_t token;  // the first, in the step
  int32_t tokens;
  int32_t slot;
  int32_t position;   // of the first token
  int32_t key_begin;  // positions; which of them a token sees follows from its own
  int32_t key_end;
  // If the tile's keys were cut, this is part `part` of `parts`, which are in consecutive shares.
  // The result of its token t goes to partial result `partial + part * tokens + t`.
  int32_t partial = -1;  // -1: the piece is the whole tile and writes the output
  int32_t part = 0;
  int32_t parts = 1;
  bool operator==(const AttendPiece&) const = default;
};

struct AttendPlan {
  // [shares + 1] per kernel: the pieces of share s are share_begin[s] .. share_begin[s + 1] - 1.
  std::vector<int32_t> share_begin[kAttendKernels];
  std::vector<AttendPiece> pieces;  // of all kernels
  int32_t partials = 0;             // tokens' partial results
  int32_t vector_rows = 0;          // the largest number of query rows in a kVector piece

  bool Uses(AttendKernel kernel) const {
    const auto& begin = share_begin[static_cast<int>(kernel)];
    return begin.front() < begin.back();
  }
};

// Overwrites `plan`; allocates only beyond its capacity.
void PlanAttend(std::span<const StepRow> rows, const AttendKind& kind, const AttendDevice& device,
                AttendPlan* plan);
// For people and tests: one line per piece.
std::string AttendPlanText(const AttendPlan& plan);

// Upper bounds of a plan, whatever the rows: the pieces for `step_tokens` tokens, and the partial
// results.
int64_t MostAttendPieces(int32_t step_tokens, const AttendDevice& device);
int64_t MostAttendPartials(const HeadShape& head, const AttendDevice& device);
// Scratch memory for partial results: two floats and the padded head in fp32, per token and head.
int64_t AttendPartialBytes(const HeadShape& head, int32_t row_elements, const AttendDevice& device);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_ATTEND_PLAN_H_
