// What the rows of the case table lead to on a GPU, by the pure choice functions of the CUDA
// device: the kernel paths that only long contexts and sums take are in the table, for a GPU of 132
// multiprocessors, and in the part of the table that the emulation has time for.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <variant>
#include <vector>

#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/gemm_select.h"
#include "tests/kernels/op_cases.h"
#include "tests/kernels/op_families.h"

namespace baram::cuda {
namespace {

using testing::OpCase;

constexpr AttendDevice kH200 = {.multiprocessors = 132, .shared_bytes_per_block = 227 << 10};
// As the emulation reports itself.
constexpr AttendDevice kEmulated = {.multiprocessors = 4, .shared_bytes_per_block = 227 << 10};

// The most parts that a tile of this kernel and depth is split into; 0: no case has such a tile.
int32_t MostParts(const std::vector<OpCase>& cases, AttendKernel kernel, int32_t depth,
                  const AttendDevice& device) {
  int32_t most = 0;
  for (const OpCase& op_case : cases) {
    const auto* c = std::get_if<testing::AttendCase>(&op_case.spec);
    if (c == nullptr || AttendDepth(kernel, c->head.head_dim) != depth) continue;
    std::vector<StepRow> rows;
    int32_t tokens = 0;
    for (const testing::Chunk& chunk : c->chunks) {
      rows.push_back({.slot = static_cast<int32_t>(rows.size()),
                      .begin = tokens,
                      .count = chunk.count,
                      .position = chunk.context,
                      .source = 0});
      tokens += chunk.count;
    }
    AttendPlan plan;
    PlanAttend(rows, {c->head, c->window}, device, &plan);
    const std::vector<int32_t>& shares = plan.share_begin[static_cast<int>(kernel)];
    for (int32_t i = shares.front(); i < shares.back(); ++i) {
      most = std::max(most, plan.pieces[i].parts);
    }
  }
  return most;
}

// The most blocks that share a tile's k in the kernel for few rows.
int32_t MostSplits(const std::vector<OpCase>& cases, int32_t multiprocessors) {
  int32_t most = 0;
  for (const OpCase& op_case : cases) {
    const auto* c = std::get_if<testing::GemmCase>(&op_case.spec);
    if (c == nullptr) continue;
    const GemmProblem problem{.rows = c->rows, .n = c->n, .k = c->k, .aligned_a = true};
    const GemmPlan plan = SelectGemm(problem, {multiprocessors, true});
    if (plan.path == GemmPath::kSkinny) most = std::max(most, plan.splits);
  }
  return most;
}

TEST(CudaOpCases, CutTilesOfEveryKernelAndDepth) {
  const std::vector<OpCase> cases = testing::OpCases();
  for (const AttendKernel kernel :
       {AttendKernel::kVector, AttendKernel::kNarrow, AttendKernel::kWide}) {
    for (const int32_t depth : {64, 128, 256}) {
      SCOPED_TRACE(::testing::Message() << static_cast<int>(kernel) << " of " << depth);
      EXPECT_GT(MostParts(cases, kernel, depth, kH200), 1);
    }
  }
}

// More parts than a warp has lanes, each of which finds the maximum of one.
TEST(CudaOpCases, MergeManyParts) {
  const std::vector<OpCase> cases = testing::OpCases();
  for (const int32_t depth : {64, 128, 256}) {
    EXPECT_GT(MostParts(cases, AttendKernel::kNarrow, depth, kH200), 32) << depth;
  }
}

TEST(CudaOpCases, ShareTheSumsOfFewRows) {
  EXPECT_EQ(MostSplits(testing::OpCases(), kH200.multiprocessors), 8) << "the most there are";
}

// The kernels' own tests cover everything; these go through the device.
TEST(CudaOpCases, OnTheEmulationHaveWhatItHasTimeFor) {
  const std::vector<OpCase> cases = testing::TestedCases();
  EXPECT_GT(MostParts(cases, AttendKernel::kVector, 64, kEmulated), 1);
  EXPECT_GT(MostParts(cases, AttendKernel::kNarrow, 64, kEmulated), 1);
  EXPECT_GT(MostSplits(cases, kEmulated.multiprocessors), 1);
  std::string left_out;
  for (const OpCase& op_case : testing::OpCases()) {
    const auto has_name = [&](const OpCase& tested) { return tested.name == op_case.name; };
    if (std::ranges::none_of(cases, has_name)) left_out += " " + op_case.name;
  }
  std::printf("run on a GPU only:%s\n", left_out.c_str());
}

}  // namespace
}  // namespace baram::cuda
