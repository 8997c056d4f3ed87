// The choice of GEMM on a GPU: which path, which tiling, and that a plan fits its memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "kernels/cuda/algorithm_table.h"
#include "kernels/cuda/gemm_select.h"

namespace baram::cuda {
namespace {

constexpr GemmFacts kH200 = {.multiprocessors = 132, .has_cublaslt = true};
constexpr GemmFacts kAlone = {.multiprocessors = 132, .has_cublaslt = false};

GemmProblem Problem(int64_t rows, int64_t n, int64_t k) {
  return {.rows = rows, .n = n, .k = k, .aligned_a = true, .aligned_out = true};
}

std::string Plan(const GemmProblem& problem, const GemmFacts& facts = kH200) {
  return ToString(SelectGemm(problem, facts));
}

TEST(CudaGemmSelect, FewRowsStreamTheWeightAndManyGoToTheLibrary) {
  EXPECT_EQ(Plan(Problem(1, 28672, 4096)), "skinny, 4 warps");
  EXPECT_EQ(Plan(Problem(16, 28672, 4096)), "skinny, 4 warps");
  EXPECT_EQ(Plan(Problem(17, 28672, 4096)), "cublaslt");
  EXPECT_EQ(Plan(Problem(2048, 28672, 4096)), "cublaslt");
}

TEST(CudaGemmSelect, WithoutTheLibraryManyRowsStayOnTensorCores) {
  EXPECT_EQ(Plan(Problem(2048, 28672, 4096), kAlone), "mma 128 x 128");
  // 64 tiles of 64 columns would leave half of the multiprocessors idle.
  EXPECT_EQ(Plan(Problem(17, 4096, 4096), kAlone), "mma 64 x 64, 4 splits");
  EXPECT_EQ(Plan(Problem(64, 28672, 4096), kAlone), "mma 64 x 64");
}

TEST(CudaGemmSelect, NarrowerProductsHaveMoreWarpsABlockThenMoreBlocksATile) {
  EXPECT_EQ(Plan(Problem(1, 6144, 4096)), "skinny, 8 warps");
  EXPECT_EQ(Plan(Problem(1, 4096, 14336)), "skinny, 16 warps");
  EXPECT_EQ(Plan(Problem(1, 2048, 2048)), "skinny, 16 warps");
  EXPECT_EQ(Plan(Problem(1, 1024, 4096)), "skinny, 16 warps, 2 splits");
  // The steps of k limit how many warps and splits can share them.
  EXPECT_EQ(Plan(Problem(1, 64, 256)), "skinny, 4 warps");
  EXPECT_EQ(Plan(Problem(1, 64, 512)), "skinny, 4 warps, 2 splits");
}

// Warps per block, for one-row products.
std::vector<int32_t> Warps(const std::vector<std::pair<int64_t, int64_t>>& shapes,
                           int32_t multiprocessors) {
  std::vector<int32_t> warps;
  for (const auto& [n, k] : shapes) {
    const GemmPlan plan = SelectGemm(Problem(1, n, k), {multiprocessors, true});
    EXPECT_EQ(plan.path, GemmPath::kSkinny);
    EXPECT_EQ(plan.splits, 1);
    warps.push_back(plan.warps);
  }
  return warps;
}

TEST(CudaGemmSelect, AModelsProductsTakeTheFewestWavesThenTheMostWarps) {
  using ::testing::ElementsAre;
  // Llama 3.1 8B: q, k and v; o; gate and up; down; head.
  const std::vector<std::pair<int64_t, int64_t>> llama_8b = {
      {6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}, {128256, 4096}};
  EXPECT_THAT(Warps(llama_8b, 132), ElementsAre(8, 16, 4, 16, 4));
  EXPECT_THAT(Warps(llama_8b, 148), ElementsAre(8, 16, 4, 16, 4));
  // Llama 3.2 1B and EXAONE 4.0 1.2B, whose gate and up differ.
  const std::vector<std::pair<int64_t, int64_t>> llama_1b = {
      {3072, 2048}, {2048, 2048}, {16384, 2048}, {2048, 8192}, {8192, 2048}, {102400, 2048}};
  EXPECT_THAT(Warps(llama_1b, 132), ElementsAre(16, 16, 4, 16, 8, 4));
  EXPECT_THAT(Warps(llama_1b, 148), ElementsAre(16, 16, 4, 16, 8, 4));
}

TEST(CudaGemmSelect, TheCutOfASkinnyProductDoesNotDependOnItsRows) {
  for (int64_t n : {48, 1024, 4096, 128256}) {
    for (int64_t rows = 2; rows <= kMaxSkinnyRows; ++rows) {
      EXPECT_EQ(SelectGemm(Problem(rows, n, 4096), kH200), SelectGemm(Problem(1, n, 4096), kH200));
    }
  }
}

TEST(CudaGemmSelect, RowsThatVectorsCannotReadGoToTensorCoresElementByElement) {
  for (int64_t rows : {1, 16, 17, 4096}) {
    GemmProblem problem = Problem(rows, 28672, 4096);
    problem.aligned_a = false;
    EXPECT_EQ(Plan(problem), "mma 64 x 64") << rows;
  }
  EXPECT_EQ(Plan(Problem(4, 28672, 4094)), "mma 64 x 64");
}

TEST(CudaGemmSelect, WhatTheLibraryDoesNotTakeStaysHere) {
  GemmProblem problem = Problem(2048, 6144, 4096);
  problem.has_bias = true;
  problem.n = 6148;  // rounding requires rows of eight-element vectors
  EXPECT_EQ(Plan(problem), "mma 128 x 128");
  problem.n = 6144;
  problem.out = DType::kF32;
  EXPECT_EQ(Plan(problem), "cublaslt");
  problem.aligned_out = false;
  EXPECT_EQ(Plan(problem), "mma 128 x 128");
  EXPECT_EQ(Plan(Problem(2048, 50257, 4096)), "cublaslt");  // an odd vocabulary is no obstacle
  EXPECT_EQ(Plan(Problem(2048, 6144, 4094)), "mma 128 x 128");
}

// The library's bias has its result's type: it adds our fp32 bias to an fp32 result.
TEST(CudaGemmSelect, ResultsOfTheLibraryWithABiasAreRoundedAfterwards) {
  GemmProblem problem = Problem(2048, 4608, 3584);
  problem.has_bias = true;
  EXPECT_EQ(Plan(problem), "cublaslt, rounded by 1024 rows");
  EXPECT_EQ(Plan(problem, kAlone), "mma 128 x 128");
  problem.rows = 255;  // too few to pay off
  EXPECT_EQ(Plan(problem), "mma 64 x 64");
  problem.rows = 16;
  EXPECT_EQ(Plan(problem).substr(0, 6), "skinny");
  problem.rows = 2048;
  problem.n = 40000;  // for which memory holds too few rows
  EXPECT_EQ(Plan(problem), "mma 128 x 128");
  for (int64_t n = 8; n < 100000; n += 8) {
    problem.n = n;
    const GemmPlan plan = SelectGemm(problem, kH200);
    if (plan.path != GemmPath::kCublasLt) continue;
    ASSERT_GT(plan.fp32_rows, 0);
    ASSERT_LE(plan.fp32_rows * n * 4, kFp32Bytes) << n;
  }
  problem.n = 4608;
  for (problem.rows = 256; problem.rows <= 8192; ++problem.rows) {
    const int64_t part = SelectGemm(problem, kH200).fp32_rows;
    ASSERT_GT(part, 0);
    const int64_t last = problem.rows - (problem.rows - 1) / part * part;
    ASSERT_GE(last, part - 8) << problem.rows << " rows end with a short part";
  }
}

TEST(CudaGemmSelect, PartialSumsFitTheirMemory) {
  for (int32_t multiprocessors : {1, 4, 132, 148}) {
    for (int64_t rows : {1, 16, 17, 64, 65, 100, 300}) {
      for (int64_t n = 1; n < 300000; n = n * 5 / 2 + 1) {
        for (int64_t k : {8, 512, 4096, 53248}) {
          const GemmPlan plan = SelectOwnGemm(Problem(rows, n, k), multiprocessors);
          ASSERT_GE(plan.splits, 1);
          if (plan.splits == 1) continue;
          const bool skinny = plan.path == GemmPath::kSkinny;
          const int64_t tile = skinny ? kSkinnyTileColumns : plan.tile;
          const int64_t tiles = (n + tile - 1) / tile * (skinny ? 1 : (rows + tile - 1) / tile);
          // A thread of the skinny kernel keeps at most four sums.
          const int64_t tile_floats = skinny ? plan.warps * 32 * 4 : tile * tile;
          ASSERT_NE(plan.tile, kLargeMmaTile);
          ASSERT_LE(tiles, kMaxSplitTiles);
          ASSERT_LE(tiles * tile_floats * plan.splits * 4, kSplitBytes)
              << rows << " x " << n << " x " << k << ": " << ToString(plan);
        }
      }
    }
  }
}

TEST(AlgorithmTable, RoundsRowsUpToFewNumbers) {
  EXPECT_EQ(RoundedRows(17), 32);
  EXPECT_EQ(RoundedRows(128), 128);
  EXPECT_EQ(RoundedRows(129), 192);
  EXPECT_EQ(RoundedRows(513), 768);
  EXPECT_EQ(RoundedRows(2049), 3072);
  EXPECT_EQ(RoundedRows(8192), 8192);
}

// Only the first product of a kind queries, whatever row counts follow.
TEST(AlgorithmTable, AsksForAllRowsOfAKindAtOnce) {
  AlgorithmTable<int64_t> table;
  table.SetMostRows(3000);
  std::vector<int64_t> asked;
  const auto find = [&](int64_t rows, int64_t n) {
    const auto ask = [&](const ProductKind& kind) {
      asked.push_back(kind.rows);
      return AlgorithmTable<int64_t>::Found{.algorithm = kind.rows * kind.n};
    };
    return table.Find({.rows = RoundedRows(rows), .n = n}, ask).algorithm;
  };
  EXPECT_EQ(find(512, 7), 512 * 7);
  EXPECT_EQ(asked, (std::vector<int64_t>{32,  48,  64,  80,  96,   112,  128,  192,  256,  320,
                                         384, 448, 512, 768, 1024, 1280, 1536, 1792, 2048, 3072}));
  asked.clear();
  for (int64_t rows = kMaxSkinnyRows + 1; rows <= 3000; ++rows) {
    ASSERT_EQ(find(rows, 7), RoundedRows(rows) * 7);
  }
  EXPECT_TRUE(asked.empty());
  find(40, 8);
  EXPECT_EQ(asked.size(), 20u) << "another kind";
  asked.clear();
  EXPECT_EQ(find(5000, 7), 5120 * 7);
  EXPECT_EQ(asked, (std::vector<int64_t>{4096, 5120})) << "more than a step was said to have";
  EXPECT_EQ(find(3, 7), 16 * 7) << "as few as our own kernels take elsewhere";
}

}  // namespace
}  // namespace baram::cuda
