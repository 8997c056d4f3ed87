// PlanAttend: equal shares of the keys.
#include "kernels/cuda/attend_plan.h"

#include <algorithm>
#include <bit>

#include "kernels/check.h"
#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

constexpr AttendKernel kKernels[] = {AttendKernel::kVector, AttendKernel::kNarrow,
                                     AttendKernel::kWide};

// What a piece costs besides its keys: its queries, the first copies, whose latency nothing hides,
// and its result. Costs are in blocks of keys. An estimate, not a measurement.
constexpr int64_t kPieceCost = 1;
// The smallest share worth cutting a tile for: two blocks of keys and the piece's cost.
constexpr int64_t kMinShare = 2 + kPieceCost;

int32_t TileRows(AttendKernel kernel) {
  switch (kernel) {
    case AttendKernel::kVector:
      return 2;
    case AttendKernel::kNarrow:
      return 16;
    case AttendKernel::kWide:
      return 64;
  }
  return 0;
}

// Blocks of threads that a multiprocessor holds at once.
int32_t BlocksPerMultiprocessor(AttendKernel kernel, int32_t head_dim,
                                int64_t shared_bytes_per_block) {
  const int32_t by_registers = AttendResidentBlocks(kernel, AttendDepth(kernel, head_dim));
  constexpr int64_t kReservedBytes = 1024;  // by the system, per block
  const int64_t bytes = AttendSharedBytes(kernel, head_dim) + kReservedBytes;
  return static_cast<int32_t>(std::clamp<int64_t>(shared_bytes_per_block / bytes, 1, by_registers));
}
constexpr int32_t kMaxBlocksPerMultiprocessor = 6;
static_assert(AttendResidentBlocks(AttendKernel::kVector, 0) <= kMaxBlocksPerMultiprocessor &&
              AttendResidentBlocks(AttendKernel::kNarrow, 0) <= kMaxBlocksPerMultiprocessor &&
              AttendResidentBlocks(AttendKernel::kWide, 0) <= kMaxBlocksPerMultiprocessor);

int64_t KeyBlocks(int32_t begin, int32_t end) {
  return (end - 1) / kKeyBlock - begin / kKeyBlock + 1;
}

// Calls visit(piece) for every tile of query tokens that `kernel` computes, with all its keys.
template <typename Visit>
void ForTiles(std::span<const StepRow> rows, const AttendKind& kind, AttendKernel kernel,
              int32_t tile_tokens, const Visit& visit) {
  for (const StepRow& row : rows) {
    if (KernelFor(row.count, kind.head) != kernel) continue;
    for (int32_t done = 0; done < row.count; done += tile_tokens) {
      const int32_t tokens = std::min(tile_tokens, row.count - done);
      const int32_t position = row.position + done;
      const int32_t begin = kind.window > 0 ? std::max(0, position - kind.window + 1) : 0;
      visit(AttendPiece{.token = row.begin + done,
                        .tokens = tokens,
                        .slot = row.slot,
                        .position = position,
                        .key_begin = begin,
                        .key_end = position + tokens});
    }
  }
}

// Assigns places to the partial results of a cut tile's pieces: the plan's last `parts` pieces.
void PlacePartials(int32_t parts, AttendPlan* plan) {
  const auto pieces = std::span(plan->pieces).last(parts);
  for (int32_t part = 0; part < parts; ++part) {
    pieces[part].partial = plan->partials;
    pieces[part].part = part;
    pieces[part].parts = parts;
  }
  plan->partials += parts * pieces.front().tokens;
}

// The work of one kernel.
struct Load {
  int64_t total = 0;       // cost of its tiles, uncut
  int64_t key_blocks = 0;  // of all tiles
  int64_t longest = 0;     // cost of its largest tile
};

// What each share may cost. A share's end either cuts a tile, which costs one piece more, or leaves
// at most a piece's cost unused, never both. So this is enough for the last share too.
int64_t ShareCost(const Load& load, int64_t shares) {
  return CeilDivide(load.total + (shares - 1) * kPieceCost, shares);
}

// How many shares get work, at most `most`. If that cuts a tile anyway, goes down to one key block
// per share: merging is then paid for already.
int64_t SharesOf(const Load& load, int32_t most) {
  const int64_t shares = std::clamp<int64_t>(load.total / kMinShare, 1, most);
  if (load.longest <= ShareCost(load, shares)) return shares;
  return std::clamp<int64_t>(load.key_blocks, shares, most);
}

void PlanKernel(std::span<const StepRow> rows, const AttendKind& kind, AttendKernel kernel,
                const AttendTiling& tiling, AttendPlan* plan) {
  Load load;
  ForTiles(rows, kind, kernel, tiling.tokens, [&](const AttendPiece& tile) {
    const int64_t blocks = KeyBlocks(tile.key_begin, tile.key_end);
    load.total += kPieceCost + blocks;
    load.key_blocks += blocks;
    load.longest = std::max(load.longest, kPieceCost + blocks);
  });
  const int64_t share_cost = ShareCost(load, SharesOf(load, tiling.shares));

  std::vector<int32_t>& share_begin = plan->share_begin[static_cast<int>(kernel)];
  share_begin.clear();
  share_begin.push_back(static_cast<int32_t>(plan->pieces.size()));
  int64_t room = share_cost;
  const auto next_share = [&] {
    share_begin.push_back(static_cast<int32_t>(plan->pieces.size()));
    room = share_cost;
  };
  ForTiles(rows, kind, kernel, tiling.tokens, [&](AttendPiece tile) {
    const int32_t end = tile.key_end;
    int32_t parts = 0;
    while (tile.key_begin < end) {
      if (room <= kPieceCost) next_share();
      const int64_t blocks = std::min(room - kPieceCost, KeyBlocks(tile.key_begin, end));
      const int64_t border = (tile.key_begin / kKeyBlock + blocks) * kKeyBlock;
      tile.key_end = static_cast<int32_t>(std::min<int64_t>(end, border));
      plan->pieces.push_back(tile);
      ++parts;
      room -= kPieceCost + blocks;
      tile.key_begin = tile.key_end;
    }
    if (parts > 1) PlacePartials(parts, plan);
    if (kernel == AttendKernel::kVector) {
      plan->vector_rows = std::max(plan->vector_rows, tile.tokens * tiling.heads);
    }
  });
  Check(static_cast<int32_t>(share_begin.size()) <= tiling.shares, "the shares hold all keys");
  while (static_cast<int32_t>(share_begin.size()) <= tiling.shares) next_share();
}

}  // namespace

AttendKernel KernelFor(int32_t count, const HeadShape& head) {
  const int64_t rows = int64_t{count} * (head.heads / head.kv_heads);
  for (AttendKernel kernel : kKernels) {
    if (rows <= TileRows(kernel)) return kernel;
  }
  return AttendKernel::kWide;
}

AttendTiling TilingOf(AttendKernel kernel, const HeadShape& head, const AttendDevice& device) {
  const int32_t rows = TileRows(kernel);
  const int32_t ratio = head.heads / head.kv_heads;
  AttendTiling tiling;
  tiling.heads = std::min(ratio, rows);
  tiling.tokens = rows / tiling.heads;
  tiling.units = static_cast<int32_t>(head.kv_heads * CeilDivide(ratio, tiling.heads));
  const int32_t blocks =
      std::min(device.multiprocessors *
                   BlocksPerMultiprocessor(kernel, head.head_dim, device.shared_bytes_per_block),
               kMaxAttendBlocks);
  tiling.shares = std::max(1, blocks / tiling.units);
  return tiling;
}

int32_t AttendDepth(AttendKernel kernel, int32_t head_dim) {
  const uint32_t least = kernel == AttendKernel::kVector ? 32 : 64;
  return static_cast<int32_t>(std::max(least, std::bit_ceil(static_cast<uint32_t>(head_dim))));
}

int64_t AttendSharedBytes(AttendKernel kernel, int32_t head_dim) {
  const int64_t depth = AttendDepth(kernel, head_dim);
  const int64_t queries = kernel == AttendKernel::kVector ? 0 : TileRows(kernel) * depth * 2;
  const int64_t stages = 2 * 2 * kKeyBlock * depth * 2;  // two, each of keys and values
  // The warps' results take the place of the keys: see attend_pieces.h.
  constexpr int64_t kRowPadding = 8;
  const int64_t rows = kernel == AttendKernel::kVector ? 4 * TileRows(kernel) * (256 / depth) : 64;
  return queries + std::max(stages, rows * (depth + kRowPadding) * 4);
}

void PlanAttend(std::span<const StepRow> rows, const AttendKind& kind, const AttendDevice& device,
                AttendPlan* plan) {
  plan->pieces.clear();
  plan->partials = 0;
  plan->vector_rows = 0;
  for (AttendKernel kernel : kKernels) {
    PlanKernel(rows, kind, kernel, TilingOf(kernel, kind.head, device), plan);
  }
}

std::string AttendPlanText(const AttendPlan& plan) {
  constexpr const char* kNames[kAttendKernels] = {"vector", "narrow", "wide"};
  std::string text;
  const auto number = [](int32_t value) { return std::to_string(value); };
  for (int kernel = 0; kernel < kAttendKernels; ++kernel) {
    const std::vector<int32_t>& begin = plan.share_begin[kernel];
    for (size_t share = 0; share + 1 < begin.size(); ++share) {
      for (int32_t i = begin[share]; i < begin[share + 1]; ++i) {
        const AttendPiece& piece = plan.pieces[i];
        text += std::string(kNames[kernel]) + " " + std::to_string(share) + ": tokens " +
                number(piece.token) + "+" + number(piece.tokens) + " of slot " +
                number(piece.slot) + " at " + number(piece.position) + ", keys " +
                number(piece.key_begin) + ".." + number(piece.key_end);
        if (piece.partial >= 0) {
          text += ", part " + number(piece.part) + " of " + number(piece.parts) + ", partials " +
                  number(piece.partial);
        }
        text += "\n";
      }
    }
  }
  return text;
}

int64_t MostAttendPieces(int32_t step_tokens, const AttendDevice& device) {
  return step_tokens +
         int64_t{kAttendKernels} * device.multiprocessors * kMaxBlocksPerMultiprocessor;
}

int64_t MostAttendPartials(const HeadShape& head, const AttendDevice& device) {
  int64_t partials = 0;
  for (AttendKernel kernel : kKernels) {
    const AttendTiling tiling = TilingOf(kernel, head, device);
    // Only the first and the last piece of a share can be parts of a cut tile.
    partials += int64_t{2} * (tiling.shares - 1) * tiling.tokens;
  }
  return partials;
}

int64_t AttendPartialBytes(const HeadShape& head, int32_t row_elements,
                           const AttendDevice& device) {
  return MostAttendPartials(head, device) * head.heads * (2 + row_elements) * 4;
}

}  // namespace baram::cuda
