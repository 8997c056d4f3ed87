// Attend on tensor cores: prompt chunks, and decode steps with many query heads per KV head.
//
//   out = softmax(scale * q K^T) V over the keys each query row sees, causal, with or without a
//   window; bf16 operands, the weights rounded to bf16 as well, fp32 scores, sums and softmax
//
// Tiles of 64 query rows (a token and a head, all of one KV head) are bound by the tensor
// cores, at 4 * hd flops per row and key. Tiles of 16 rows, decode steps, are bound by reading the
// cache, 4 * hd * kv_heads bytes per key. Keys and values go from the pages straight to shared
// memory by 16-byte asynchronous copies, double-buffered in blocks of 64 keys.
//
// Grid [KV heads and parts of their query heads, shares of the keys], 128 threads. A warp has 16
// rows. In tiles of 64 each warp has rows of its own and all keys (kKeyWarps 1). In tiles of 16 all
// warps have the same rows, each with every fourth group of 16 keys (kKeyWarps 4); a warp copies
// those keys itself, so that warps wait for each other only at the end of a piece.
// Rows of shared memory are dense, with the 16-byte vectors of every 8 rows swizzled, so that the
// eight rows of a matrix lie in different banks. Fragments are those of MmaBf16 in instructions.h:
// the scores of two blocks of 8 keys already have the layout of the left operand of the product
// with the values.

#include <cfloat>

#include "kernels/cuda/attend_merge.h"
#include "kernels/cuda/attend_pieces.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/reduce.h"

namespace baram::cuda {
namespace {

constexpr int kFragmentRows = 16;
constexpr int kQuadLanes = 4;              // that together hold a row of a fragment
constexpr int kPageKeys = kMinPageTokens;  // keys from a multiple of it on share a page
// Partial results that a lane reads at once: in tiles of 64 rows of the longest heads, 8 would
// spill. A chunk of many such tiles cuts them into few parts, but a short chunk after a long
// context into as many as there are shares, 33 on an H200 with 8 KV heads.
template <int kKeyWarps>
inline constexpr int kMergedAtOnce = kKeyWarps == 1 ? 4 : 8;

template <int kDepth, int kKeyWarps>
class TilePiece {
 public:
  __device__ TilePiece(const AttendLaunch& args, const AttendUnit& unit, const AttendPiece& piece)
      : args_(args),
        unit_(unit),
        piece_(piece),
        lane_(static_cast<int>(threadIdx.x) % kWarpThreads),
        row_part_(static_cast<int>(threadIdx.x) / kWarpThreads / kKeyWarps),
        key_part_(static_cast<int>(threadIdx.x) / kWarpThreads % kKeyWarps),
        sharer_(static_cast<int>(threadIdx.x) % kSharers),
        queries_(DynamicShared<Bf16>()),
        stages_(queries_ + kTileRows * kDepth) {}

  // Leaves its results in shared memory, for all threads.
  __device__ void Run() {
    const int32_t first = piece_.key_begin / kKeyBlock;
    const int32_t end = (piece_.key_end - 1) / kKeyBlock + 1;
    // The first keys are on their way while the queries are waited for.
    int32_t page = PageAhead(first);
    Copy(first, first % 2, page);
    page = PageAhead(first + 1);
    StoreQueries();
    for (int half = 0; half < 2; ++half) {
      keys_[half] = KeysOf(args_, piece_, FirstRow() + half * 8);
      state_[half] = {-FLT_MAX, 0};  // finite: while no key is seen, weights are 0, not NaN
    }
    for (auto& sums : sums_) {
      for (float& sum : sums) sum = 0;
    }
    __syncthreads();  // the queries have arrived
    if constexpr (kKeepsQueries) {
      for (int k = 0; k < kDepth / 16; ++k) LoadQueryFragment(k, query_fragments_[k]);
    }
    for (int32_t block = first; block < end; ++block) {
      const int stage = block % 2;
      if (block + 1 < end) {
        Copy(block + 1, 1 - stage, page);
        page = PageAhead(block + 2);
        CopyAsyncWait<1>();
      } else {
        CopyAsyncWait<0>();
      }
      if (!AllSee(block)) Confine(stage);
      SyncSharers();  // all sharers' copies have arrived
      Add(block, stage);
      SyncSharers();  // and have been read
    }
    __syncthreads();  // results take the place of the stages
    Leave();
    __syncthreads();
  }

  static constexpr int kRowWarps = kAttendWarps / kKeyWarps;
  static constexpr int kTileRows = kRowWarps * kFragmentRows;
  // Where Run leaves its results, after the queries.
  static __device__ float* Results() {
    return reinterpret_cast<float*>(DynamicShared<Bf16>() + kTileRows * kDepth);
  }

 private:
  static constexpr int kWarpKeys = kKeyBlock / kKeyWarps;
  static constexpr int kSharers = kAttendThreads / kKeyWarps;  // threads that copy for each other
  static constexpr int kRowVectors = kDepth / kWideVector;
  static constexpr int kPassKeys = kSharers / kRowVectors;   // keys they copy at a time
  static constexpr int kPageGroups = kWarpKeys / kPageKeys;  // groups of keys, each in a page
  static constexpr int kPasses = kPageKeys / kPassKeys;
  // The sums of the longest heads leave no registers for several addresses.
  static constexpr int kPassesAtOnce = kDepth > 128 ? 1 : kPasses;
  static constexpr int kPlane = kKeyBlock * kDepth;  // keys, or values, of a stage
  // Whether a warp's query fragments stay in registers: longer ones would make the sums spill, or
  // allow fewer blocks per multiprocessor.
  static constexpr bool kKeepsQueries = kDepth <= 64;

  // Where vector `vector` of a row lies in a dense [rows, kDepth] of shared memory.
  static __device__ int Place(int row, int vector) {
    return row * kDepth + (vector ^ (row % 8)) * kWideVector;
  }
  __device__ Bf16* Plane(int stage, int plane) const {
    return stages_ + (stage * 2 + plane) * kPlane;
  }
  // The first key of a block that this thread's sharers copy.
  __device__ int32_t FirstKey(int32_t block) const {
    return block * kKeyBlock + key_part_ * kWarpKeys;
  }
  // The first of this lane's two query rows, eight apart, in the tile.
  __device__ int FirstRow() const { return row_part_ * kFragmentRows + lane_ / kQuadLanes; }

  __device__ void SyncSharers() const {
    if constexpr (kKeyWarps == 1) {
      __syncthreads();
    } else {
      SyncWarp();
    }
  }

  __device__ void StoreQueries() const {
    for (int i = static_cast<int>(threadIdx.x); i < kTileRows * kRowVectors; i += kAttendThreads) {
      const int row = i / kRowVectors;
      const int vector = i % kRowVectors;
      float values[kWideVector];
      LoadQuery(args_, RowOf(args_, piece_, unit_, row), vector * kWideVector, values);
      StoreVector<kWideVector>(values, queries_ + Place(row, vector));
    }
  }

  // The page of group `group` of a block's keys, some of which this thread copies. Does not read
  // the page table if no key is wanted.
  __device__ int32_t PageOf(int32_t block, int group) const {
    const int32_t first = FirstKey(block) + group * kPageKeys;
    const bool wanted = first < piece_.key_end && first + kPageKeys > piece_.key_begin;
    return wanted ? args_.kv.Page(piece_.slot, first >> args_.kv.page_shift) : 0;
  }

  // The page of the only group, if there is just one: looked up a block ahead, so that the
  // arithmetic hides the latency. If there are several, Copy looks them up.
  __device__ int32_t PageAhead(int32_t block) const {
    if constexpr (kPageGroups == 1) {
      return PageOf(block, 0);
    } else {
      return 0;
    }
  }

  // Keys outside the piece become zero: they may be NaN, and 0 times NaN is NaN. `page`: from
  // PageAhead.
  __device__ void Copy(int32_t block, int stage, int32_t page) const {
    const KvView& kv = args_.kv;
    const int vector = sharer_ % kRowVectors;
    const bool in_row = vector < kv.row_elements / kWideVector;
    const int32_t plane = kv.row_elements << kv.page_shift;
    BARAM_NO_UNROLL
    for (int group = 0; group < kPageGroups; ++group) {
      if constexpr (kPageGroups > 1) page = PageOf(block, group);
      const int row = key_part_ * kWarpKeys + group * kPageKeys + sharer_ / kRowVectors;
      const int32_t key = block * kKeyBlock + row;
      const Bf16* from = kv.Plane(page, unit_.kv_head, 0) + vector * kWideVector +
                         (key & ((1 << kv.page_shift) - 1)) * kv.row_elements;
      BARAM_UNROLL_BY(kPassesAtOnce)
      for (int pass = 0; pass < kPasses; ++pass) {
        const int32_t at = key + pass * kPassKeys;
        const int bytes = in_row && at >= piece_.key_begin && at < piece_.key_end ? 16 : 0;
        Bf16* to = Plane(stage, 0) + Place(row + pass * kPassKeys, vector);
        CopyAsync16(to, from, bytes);
        CopyAsync16(to + kPlane, from + plane, bytes);
        from += kPassKeys * kv.row_elements;
      }
    }
    CopyAsyncCommit();
  }

  // Whether every row of the tile sees every key of the block, judged by what is in registers
  // anyway: the tile's first and last token are at most `most` apart, and so are the ends of their
  // key ranges.
  __device__ bool AllSee(int32_t block) const {
    const int32_t most = kTileRows - args_.unit_heads;
    return (args_.window == 0 || block * kKeyBlock >= piece_.key_begin + most) &&
           (block + 1) * kKeyBlock <= piece_.key_end - most;
  }

  // A non-finite value would reach even rows that do not see its key: their weight is 0, but 0
  // times NaN is NaN. So it becomes 0 and its key NaN, which makes the result NaN in exactly the
  // rows that see the key. Handles what this thread copied, so that no thread has to wait.
  __device__ void Confine(int stage) const {
    BARAM_NO_UNROLL
    for (int i = 0; i < kPageGroups * kPasses; ++i) {
      const int row = key_part_ * kWarpKeys + i * kPassKeys + sharer_ / kRowVectors;
      Bf16* key = Plane(stage, 0) + Place(row, sharer_ % kRowVectors);
      auto* values = reinterpret_cast<uint4*>(key + kPlane);
      if (AllFinite(*values)) continue;
      *values = uint4{0, 0, 0, 0};
      *key = FromFloat<Bf16>(NAN);
    }
  }

  // Elements 16 k .. 16 k + 15 of this warp's query rows.
  __device__ void LoadQueryFragment(int k, uint32_t (&fragment)[4]) const {
    const int row = row_part_ * kFragmentRows + lane_ % 16;
    LoadMatrices<false>(fragment, queries_ + Place(row, 2 * k + lane_ / 16));
  }

  // Scores of this lane's two rows: [8 keys][row, two keys each].
  using Scores = float[kWarpKeys / 8][4];

  __device__ void Score(int stage, Scores& scores) const {
    for (auto& keys : scores) {
      for (float& score : keys) score = 0;
    }
    // Lanes 0-7 and 8-15 address the two halves of 8 keys' 16 elements, the others those of the
    // next 8 keys.
    const int row = key_part_ * kWarpKeys + lane_ / 16 * 8 + lane_ % 8;
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t query[4];
      if constexpr (kKeepsQueries) {
        for (int i = 0; i < 4; ++i) query[i] = query_fragments_[k][i];
      } else {
        LoadQueryFragment(k, query);
      }
      for (int n = 0; n < kWarpKeys / 16; ++n) {
        uint32_t keys[4];
        LoadMatrices<false>(keys, Plane(stage, 0) + Place(row + n * 16, 2 * k + lane_ / 8 % 2));
        MmaBf16(scores[2 * n], query, {keys[0], keys[1]});
        MmaBf16(scores[2 * n + 1], query, {keys[2], keys[3]});
      }
    }
  }

  // Sets the scores of keys that a row does not see to -infinity. In most blocks both rows see all
  // keys.
  __device__ void Mask(int32_t block, Scores& scores) const {
    const int32_t begin = FirstKey(block);
    const int32_t end = begin + kWarpKeys;
    // The second row's token is not before the first's.
    if (begin >= keys_[1].begin && end <= keys_[0].end) return;
    const int32_t first = begin + lane_ % kQuadLanes * 2;
    for (int n = 0; n < kWarpKeys / 8; ++n) {
      for (int i = 0; i < 4; ++i) {
        const int32_t key = first + n * 8 + i % 2;
        const bool seen = key >= keys_[i / 2].begin && key < keys_[i / 2].end;
        if (!seen) scores[n][i] = kMinusInfinity;
      }
    }
  }

  // Turns scores into weights relative to the largest so far, and rescales the previous sums. The
  // sums of weights are per lane until Leave. Scores are scaled, to base 2, where their largest is
  // subtracted: one multiply-add each.
  __device__ void Weigh(Scores& scores) {
    for (int half = 0; half < 2; ++half) {
      float largest = kMinusInfinity;  // of this block, before scaling
      for (const auto& keys : scores) {
        largest = fmaxf(largest, fmaxf(keys[2 * half], keys[2 * half + 1]));
      }
      largest = fmaxf(state_[half].largest, WarpReduce<Max>(largest, kQuadLanes) * args_.scale);
      const float factor = Exp2(state_[half].largest - largest);
      float sum = state_[half].sum * factor;
      for (auto& keys : scores) {
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          keys[i] = Exp2(fmaf(keys[i], args_.scale, -largest));
          sum += keys[i];
        }
      }
      state_[half] = {largest, sum};
      for (auto& sums : sums_) {
        sums[2 * half] *= factor;
        sums[2 * half + 1] *= factor;
      }
    }
  }

  __device__ void AddValues(int stage, const Scores& weights) {
    // Lanes 0-15 address 16 keys' first 8 elements, the others the next 8.
    const int row = key_part_ * kWarpKeys + lane_ % 16;
    for (int k = 0; k < kWarpKeys / 16; ++k) {
      const auto& low = weights[2 * k];
      const auto& high = weights[2 * k + 1];
      const uint32_t fragment[4] = {PackBf16(low[0], low[1]), PackBf16(low[2], low[3]),
                                    PackBf16(high[0], high[1]), PackBf16(high[2], high[3])};
      for (int n = 0; n < kDepth / 16; ++n) {
        uint32_t values[4];
        LoadMatrices<true>(values, Plane(stage, 1) + Place(row + k * 16, 2 * n + lane_ / 16));
        MmaBf16(sums_[2 * n], fragment, {values[0], values[1]});
        MmaBf16(sums_[2 * n + 1], fragment, {values[2], values[3]});
      }
    }
  }

  __device__ void Add(int32_t block, int stage) {
    Scores scores;
    Score(stage, scores);
    Mask(block, scores);
    Weigh(scores);
    AddValues(stage, scores);
  }

  __device__ void Leave() {
    for (int half = 0; half < 2; ++half) {
      state_[half].sum = WarpReduce<Sum>(state_[half].sum, kQuadLanes);
      const int row = key_part_ * kTileRows + FirstRow() + half * 8;
      float* result = Results() + row * kResultStride<kDepth>;
      for (int n = 0; n < kDepth / 8; ++n) {
        const int column = n * 8 + lane_ % kQuadLanes * 2;
        *reinterpret_cast<float2*>(result + column) =
            float2{sums_[n][2 * half], sums_[n][2 * half + 1]};
      }
      if (lane_ % kQuadLanes == 0) LeaveState<kDepth>(result, state_[half]);
    }
  }

  const AttendLaunch& args_;
  const AttendUnit unit_;
  const AttendPiece piece_;
  const int lane_;
  const int row_part_;
  const int key_part_;
  const int sharer_;     // among the threads that copy for each other
  Bf16* const queries_;  // [kTileRows, kDepth]
  Bf16* const stages_;   // [2][keys, values][kKeyBlock, kDepth]
  KeyRange keys_[2];     // of this lane's two rows
  SoftmaxState state_[2];
  float sums_[kDepth / 8][4];  // [8 elements][row, two elements each]
  uint32_t query_fragments_[kKeepsQueries ? kDepth / 16 : 1][4];
};

template <int kDepth, int kKeyWarps>
__global__ void __launch_bounds__(kAttendThreads,
                                  AttendResidentBlocks(kKeyWarps == 1 ? AttendKernel::kWide
                                                                      : AttendKernel::kNarrow,
                                                       kDepth))
    AttendTileKernel(const __grid_constant__ AttendLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const AttendUnit unit = UnitOf(args);
  for (int32_t i = args.share_begin[blockIdx.y]; i < args.share_begin[blockIdx.y + 1]; ++i) {
    using Piece = TilePiece<kDepth, kKeyWarps>;
    Piece(args, unit, args.pieces[i]).Run();
    Finish<kDepth, kMergedAtOnce<kKeyWarps>>(args, args.pieces + i, unit, Piece::Results(),
                                             kKeyWarps, Piece::kTileRows);
    __syncthreads();  // the next piece overwrites shared memory
  }
}

}  // namespace

void LaunchAttendTiles(const AttendArgs& args, const AttendPlanArrays& plan,
                       const AttendTiling& tiling, AttendKernel kernel, uint32_t* arrived,
                       LaunchStream stream) {
  const AttendLaunch launch = AttendLaunchOf(args, plan, tiling, kernel, arrived);
  const int64_t shared = AttendSharedBytes(kernel, launch.head_dim);
  const int key_warps = kernel == AttendKernel::kNarrow ? kAttendWarps : 1;
  WithConstant<64, 128, 256>(AttendDepth(kernel, launch.head_dim), [&](auto depth) {
    WithConstant<1, kAttendWarps>(key_warps, [&](auto warps) {
      Launch(AttendTileKernel<depth(), warps()>, GridOf(tiling), {kAttendThreads}, shared, stream,
             launch);
    });
  });
}

}  // namespace baram::cuda
