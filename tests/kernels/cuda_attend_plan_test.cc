// PlanAttend: every query token meets each of its keys once, shares are equal, split tiles are
// merged, and nothing outgrows its reservation.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/attend_plan.h"

namespace baram::cuda {
namespace {

constexpr AttendKernel kKernels[] = {AttendKernel::kVector, AttendKernel::kNarrow,
                                     AttendKernel::kWide};
constexpr AttendDevice kSmall{.multiprocessors = 4, .shared_bytes_per_block = 227 << 10};
constexpr AttendDevice kLarge{.multiprocessors = 132, .shared_bytes_per_block = 227 << 10};

struct Chunk {
  int32_t position;
  int32_t count;
};

std::vector<StepRow> RowsOf(const std::vector<Chunk>& chunks) {
  std::vector<StepRow> rows;
  int32_t token = 0;
  for (const Chunk& chunk : chunks) {
    rows.push_back({.slot = static_cast<int32_t>(rows.size()),
                    .begin = token,
                    .count = chunk.count,
                    .position = chunk.position,
                    .source = 0});
    token += chunk.count;
  }
  return rows;
}

AttendPlan Plan(const std::vector<Chunk>& chunks, const AttendKind& kind,
                const AttendDevice& device) {
  AttendPlan plan;
  PlanAttend(RowsOf(chunks), kind, device, &plan);
  return plan;
}

// Blocks of keys, plus one for the piece.
int64_t Cost(const AttendPiece& piece) {
  return 2 + (piece.key_end - 1) / kKeyBlock - piece.key_begin / kKeyBlock;
}

int64_t ShareCost(const AttendPlan& plan, int kernel, size_t share) {
  int64_t cost = 0;
  for (int32_t i = plan.share_begin[kernel][share]; i < plan.share_begin[kernel][share + 1]; ++i) {
    cost += Cost(plan.pieces[i]);
  }
  return cost;
}

// The pieces of every query token, in order of their keys, cover each key exactly once.
void ExpectEveryKeyOnce(const std::vector<Chunk>& chunks, const AttendKind& kind,
                        const AttendPlan& plan) {
  std::map<int32_t, std::vector<AttendPiece>> of_token;
  for (const AttendPiece& piece : plan.pieces) {
    ASSERT_GT(piece.tokens, 0);
    ASSERT_LT(piece.key_begin, piece.key_end);
    for (int32_t t = 0; t < piece.tokens; ++t) of_token[piece.token + t].push_back(piece);
  }
  std::vector<int> written(plan.partials, 0);
  for (const StepRow& row : RowsOf(chunks)) {
    for (int32_t t = 0; t < row.count; ++t) {
      const auto& pieces = of_token[row.begin + t];
      const int32_t position = row.position + t;
      const int32_t first = kind.window > 0 ? std::max(0, position - kind.window + 1) : 0;
      ASSERT_FALSE(pieces.empty());
      EXPECT_LE(pieces.front().key_begin, first);
      EXPECT_GT(pieces.back().key_end, position);
      const bool cut = pieces.size() > 1;
      for (size_t i = 0; i < pieces.size(); ++i) {
        EXPECT_EQ(pieces[i].slot, row.slot);
        EXPECT_EQ(pieces[i].position + (row.begin + t - pieces[i].token), position);
        if (i > 0) {
          EXPECT_EQ(pieces[i].key_begin, pieces[i - 1].key_end);
          EXPECT_EQ(pieces[i].key_begin % kKeyBlock, 0);
        }
        if (!cut) {
          EXPECT_EQ(pieces[i].partial, -1);
          continue;
        }
        EXPECT_EQ(pieces[i].partial, pieces[0].partial);
        EXPECT_EQ(pieces[i].part, static_cast<int32_t>(i));
        EXPECT_EQ(pieces[i].parts, static_cast<int32_t>(pieces.size()));
        const int32_t place = pieces[i].partial + pieces[i].part * pieces[i].tokens +
                              (row.begin + t - pieces[i].token);
        ASSERT_LT(place, plan.partials);
        ++written[place];
      }
    }
  }
  for (int count : written) EXPECT_EQ(count, 1);
}

// The counter that a split tile's parts find from their share and part is the same, and no other
// tile's.
void ExpectACounterForEveryCut(const AttendPlan& plan) {
  for (const std::vector<int32_t>& begin : plan.share_begin) {
    std::map<std::ptrdiff_t, int32_t> partial_of;  // by the first part's share
    for (size_t share = 0; share + 1 < begin.size(); ++share) {
      for (int32_t i = begin[share]; i < begin[share + 1]; ++i) {
        const AttendPiece& piece = plan.pieces[i];
        if (piece.partial < 0) continue;
        const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(share) - piece.part;
        ASSERT_EQ(partial_of.emplace(first, piece.partial).first->second, piece.partial);
      }
    }
  }
}

// What SharesOf promises: thread blocks have enough to do, or the keys of a tile that is too long
// for one are spread as far as possible. Computed on the tiles as they were before splitting.
void ExpectSharesWorthABlock(const AttendPlan& plan, int kernel, int32_t shares) {
  const std::vector<int32_t>& begin = plan.share_begin[kernel];
  std::vector<int64_t> tiles;  // their costs
  int32_t most_parts = 0;
  for (int32_t i = begin.front(); i < begin.back(); ++i) {
    const AttendPiece& piece = plan.pieces[i];
    if (piece.part == 0) tiles.push_back(1);
    tiles.back() += Cost(piece) - 1;
    most_parts = std::max(most_parts, piece.parts);
  }
  if (tiles.empty()) return;
  const int64_t total = std::accumulate(tiles.begin(), tiles.end(), int64_t{0});
  const int64_t key_blocks = total - std::ssize(tiles);
  int64_t used = 0;
  for (int32_t share = 0; share < shares; ++share) used += begin[share] < begin[share + 1] ? 1 : 0;
  const int64_t whole = std::clamp<int64_t>(total / 3, 1, shares);
  const int64_t share = (total + whole - 1 + whole - 1) / whole;
  if (*std::ranges::max_element(tiles) > share) {
    EXPECT_LE(used, std::max<int64_t>(total / 3, std::min<int64_t>(shares, key_blocks)));
    EXPECT_GT(most_parts, 1);
    return;
  }
  EXPECT_LE(used, whole);
  // It may start at the end of a share, and ends within the next.
  EXPECT_LE(most_parts, 2) << "a tile that fits a share";
}

void ExpectEqualShares(const AttendKind& kind, const AttendDevice& device, const AttendPlan& plan) {
  for (AttendKernel kernel : kKernels) {
    const int k = static_cast<int>(kernel);
    const AttendTiling tiling = TilingOf(kernel, kind.head, device);
    ASSERT_EQ(plan.share_begin[k].size(), tiling.shares + 1u);
    int64_t total = 0;
    int64_t most = 0;
    for (int32_t share = 0; share < tiling.shares; ++share) {
      const int64_t cost = ShareCost(plan, k, share);
      total += cost;
      most = std::max(most, cost);
    }
    // Rounding up, plus the cost of the piece that a split adds.
    EXPECT_LE(most, std::max<int64_t>(total / tiling.shares + 2, 6)) << "kernel " << k;
    ExpectSharesWorthABlock(plan, k, tiling.shares);
  }
}

TEST(AttendPlan, SaysWhatItCuts) {
  // One decode step after 1000 tokens, one at the start of a sequence, and a chunk.
  const AttendPlan plan = Plan({{1000, 1}, {0, 1}, {60, 40}}, {{4, 4, 64}, 0}, kSmall);
  EXPECT_EQ(AttendPlanText(plan),
            "vector 0: tokens 0+1 of slot 0 at 1000, keys 0..192, part 0 of 6, partials 0\n"
            "vector 1: tokens 0+1 of slot 0 at 1000, keys 192..384, part 1 of 6, partials 0\n"
            "vector 2: tokens 0+1 of slot 0 at 1000, keys 384..576, part 2 of 6, partials 0\n"
            "vector 3: tokens 0+1 of slot 0 at 1000, keys 576..768, part 3 of 6, partials 0\n"
            "vector 4: tokens 0+1 of slot 0 at 1000, keys 768..960, part 4 of 6, partials 0\n"
            "vector 5: tokens 0+1 of slot 0 at 1000, keys 960..1001, part 5 of 6, partials 0\n"
            "vector 5: tokens 1+1 of slot 1 at 0, keys 0..1\n"
            "wide 0: tokens 2+40 of slot 2 at 60, keys 0..100\n");
  EXPECT_EQ(plan.vector_rows, 1);
  EXPECT_TRUE(plan.Uses(AttendKernel::kVector));
  EXPECT_FALSE(plan.Uses(AttendKernel::kNarrow));
  EXPECT_TRUE(plan.Uses(AttendKernel::kWide));
}

TEST(AttendPlan, RowsThatShareKeysChooseTheKernel) {
  EXPECT_EQ(KernelFor(1, {32, 16, 128}), AttendKernel::kVector);
  EXPECT_EQ(KernelFor(1, {24, 8, 128}), AttendKernel::kNarrow);
  EXPECT_EQ(KernelFor(4, {32, 8, 128}), AttendKernel::kNarrow);
  EXPECT_EQ(KernelFor(5, {32, 8, 128}), AttendKernel::kWide);
  EXPECT_EQ(KernelFor(1, {71, 1, 64}), AttendKernel::kWide);
  EXPECT_EQ(KernelFor(2, {8, 8, 64}), AttendKernel::kVector);
}

TEST(AttendPlan, TilesHoldWholeTokens) {
  const AttendTiling seven = TilingOf(AttendKernel::kWide, {7, 1, 64}, kLarge);
  EXPECT_EQ(seven.heads, 7);
  EXPECT_EQ(seven.tokens, 9);
  EXPECT_EQ(seven.units, 1);
  // More query heads than a tile has rows: two units per token.
  const AttendTiling many = TilingOf(AttendKernel::kWide, {142, 2, 64}, kLarge);
  EXPECT_EQ(many.heads, 64);
  EXPECT_EQ(many.tokens, 1);
  EXPECT_EQ(many.units, 4);
}

// One long context alone fills the GPU; its blocks are the shares times the units.
TEST(AttendPlan, ALongContextIsSpreadOverTheDevice) {
  const AttendKind kind{{32, 8, 128}, 0};
  const AttendPlan plan = Plan({{131071, 1}}, kind, kLarge);
  const AttendTiling tiling = TilingOf(AttendKernel::kNarrow, kind.head, kLarge);
  EXPECT_GE(tiling.shares * tiling.units, 2 * kLarge.multiprocessors);
  EXPECT_GE(static_cast<int32_t>(plan.pieces.size()), tiling.shares * 9 / 10);
  ExpectEqualShares(kind, kLarge, plan);
}

// So does a short one: split down to one block of keys each, unless there are only a few.
TEST(AttendPlan, AShortContextAloneIsCutDownToBlocksOfKeys) {
  const AttendKind kind{{32, 8, 128}, 0};
  const auto pieces = [&](const std::vector<Chunk>& chunks) {
    const AttendPlan plan = Plan(chunks, kind, kLarge);
    ExpectEqualShares(kind, kLarge, plan);
    return plan.pieces.size();
  };
  EXPECT_EQ(pieces({{1023, 1}}), 16u);  // with 8 KV heads: 128 blocks for 132 multiprocessors
  EXPECT_EQ(pieces({{255, 1}}), 1u);
  EXPECT_EQ(pieces({{256, 1}}), 5u);
  EXPECT_EQ(pieces({{3000, 1}}), 47u);
  // Several short ones stay whole as long as they are spread.
  EXPECT_EQ(pieces(std::vector<Chunk>(8, {63, 1})), 8u);
  EXPECT_EQ(pieces(std::vector<Chunk>(20, {191, 1})), 20u);
}

TEST(AttendPlan, AWindowBoundsTheKeys) {
  const AttendPlan plan = Plan({{131071, 1}}, {{32, 8, 128}, 100}, kLarge);
  ASSERT_EQ(plan.pieces.size(), 1u);
  EXPECT_EQ(plan.pieces[0].key_begin, 131072 - 100);
  EXPECT_EQ(plan.pieces[0].key_end, 131072);
}

TEST(AttendPlan, NoRowsAreNoWork) {
  const AttendPlan plan = Plan({}, {{32, 8, 128}, 0}, kLarge);
  EXPECT_TRUE(plan.pieces.empty());
  for (AttendKernel kernel : kKernels) EXPECT_FALSE(plan.Uses(kernel));
}

TEST(AttendPlan, AnyStepIsCoveredOnceInEqualSharesWithinTheLimits) {
  std::mt19937 random(11);
  const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % n); };
  const HeadShape heads[] = {{32, 8, 128}, {16, 16, 64}, {7, 1, 256}, {40, 8, 128}, {71, 1, 24}};
  AttendPlan reused;
  for (int round = 0; round < 60; ++round) {
    const AttendKind kind{heads[below(5)], below(2) == 0 ? 0 : 1 + below(3000)};
    const AttendDevice& device = below(2) == 0 ? kSmall : kLarge;
    std::vector<Chunk> chunks;
    int32_t tokens = 0;
    for (int32_t i = below(40); i >= 0; --i) {
      const int32_t count = below(3) == 0 ? 1 + below(200) : 1 + below(2);
      chunks.push_back({below(below(8) == 0 ? 60000 : 2000), count});
      tokens += count;
    }
    PlanAttend(RowsOf(chunks), kind, device, &reused);
    SCOPED_TRACE(round);
    ASSERT_NO_FATAL_FAILURE(ExpectEveryKeyOnce(chunks, kind, reused));
    ASSERT_NO_FATAL_FAILURE(ExpectEqualShares(kind, device, reused));
    ASSERT_NO_FATAL_FAILURE(ExpectACounterForEveryCut(reused));
    EXPECT_LE(static_cast<int64_t>(reused.pieces.size()), MostAttendPieces(tokens, device));
    EXPECT_LE(reused.partials, MostAttendPartials(kind.head, device));
    // Nothing of the previous plan is left.
    EXPECT_EQ(AttendPlanText(reused), AttendPlanText(Plan(chunks, kind, device)));
  }
}

}  // namespace
}  // namespace baram::cuda
