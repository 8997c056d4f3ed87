// StepAttendPlans on the emulation: the kernels read exactly what was planned, for every kind, in
// every step, at fixed addresses.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/step_attend_plans.h"
#include "tests/kernels/cuda_plans.h"

namespace baram::cuda {
namespace {

// What a step found of a kind's plan in GPU memory when the stream executed it; and what it should
// find.
struct FoundPlan {
  AttendPlan want;
  AttendPlanArrays arrays;
  std::array<std::vector<int32_t>, kAttendKernels> share_begin;
  std::vector<AttendPiece> pieces = std::vector<AttendPiece>(100);

  FoundPlan(const StepAttendPlans::Planned& planned, Stream stream)
      : want(planned.plan), arrays(planned.arrays) {
    const auto fetch = [&](void* host, const void* device, int64_t bytes) {
      EXPECT_EQ(CopyToHost(host, device, bytes, stream), nullptr);
    };
    for (int kernel = 0; kernel < kAttendKernels; ++kernel) {
      share_begin[kernel].resize(want.share_begin[kernel].size());
      fetch(share_begin[kernel].data(), arrays.share_begin[kernel],
            std::ssize(share_begin[kernel]) * 4);
    }
    fetch(pieces.data(), arrays.pieces, std::ssize(pieces) * int64_t{sizeof(AttendPiece)});
  }
  void ExpectAsPlanned() const {
    std::vector<AttendPiece> found;
    for (int kernel = 0; kernel < kAttendKernels; ++kernel) {
      const std::vector<int32_t>& begin = share_begin[kernel];
      const int32_t offset = begin.front() - want.share_begin[kernel].front();
      for (size_t share = 0; share < begin.size(); ++share) {
        EXPECT_EQ(begin[share], want.share_begin[kernel][share] + offset);
      }
      found.insert(found.end(), pieces.begin() + begin.front(), pieces.begin() + begin.back());
    }
    EXPECT_EQ(found, want.pieces);
  }
};

// Nothing waits between the steps, so a staging buffer that is overwritten too early shows. Kinds
// appear one after the other.
TEST(StepAttendPlans, ArriveWithTheirStep) {
  OwnedStream stream;
  ASSERT_EQ(MakeOwned(&stream, CreateStream), nullptr);
  SlotShape shape;
  shape.max_step_tokens = 32;
  UploadedPlans uploaded;
  const AttendDevice facts{.multiprocessors = 4, .shared_bytes_per_block = 227 << 10};
  ASSERT_EQ(uploaded.Reserve(shape, facts, stream.get()), nullptr);
  const AttendKind kinds[] = {
      {.head = {4, 2, 64}}, {.head = {4, 2, 64}, .window = 40}, {.head = {8, 1, 128}, .window = 7}};
  constexpr int kSteps = 9;
  std::vector<FoundPlan> found;
  found.reserve(kSteps * std::size(kinds));  // the stream writes into its elements
  for (int step = 0; step < kSteps; ++step) {
    const StepRow rows[] = {
        {.slot = 0, .begin = 0, .count = 1, .position = 300 * step, .source = -1},
        {.slot = 1, .begin = 1, .count = 1 + step, .position = 10 * step, .source = 0}};
    uploaded.BeginStep(rows);
    const size_t asked = std::min<size_t>(std::size(kinds), 1 + step / 2);
    for (size_t kind = 0; kind < asked; ++kind) {
      found.emplace_back(uploaded.plans.For(kinds[kind], /*captured=*/false), stream.get());
    }
  }
  ASSERT_EQ(Synchronize(stream.get()), nullptr);
  EXPECT_EQ(uploaded.block.error(), nullptr);
  ASSERT_EQ(found.size(), 2 * 1 + 2 * 2 + 5 * 3u);
  for (const FoundPlan& plan : found) plan.ExpectAsPlanned();
  // A graph reads the addresses it read when it was captured.
  for (size_t kind = 0; kind < std::size(kinds); ++kind) {
    const AttendPlanArrays& first = found[6 + kind].arrays;
    const AttendPlanArrays& last = found[found.size() - std::size(kinds) + kind].arrays;
    EXPECT_EQ(first.pieces, last.pieces);
    EXPECT_TRUE(std::ranges::equal(first.share_begin, last.share_begin));
  }
}

TEST(StepAttendPlans, ThatGraphsUseKeepTheirPlace) {
  OwnedStream stream;
  ASSERT_EQ(MakeOwned(&stream, CreateStream), nullptr);
  SlotShape shape;
  shape.max_step_tokens = 4;
  UploadedPlans uploaded;
  StepAttendPlans& plans = uploaded.plans;
  const AttendDevice facts{.multiprocessors = 4, .shared_bytes_per_block = 227 << 10};
  ASSERT_EQ(uploaded.Reserve(shape, facts, stream.get()), nullptr);
  const StepRow row{.slot = 0, .begin = 0, .count = 1, .position = 10, .source = -1};
  uploaded.BeginStep({&row, 1});
  const auto kind = [](int32_t window) { return AttendKind{.head = {4, 2, 64}, .window = window}; };
  EXPECT_DEATH(plans.For(kind(1), /*captured=*/true), "before it is captured");
  // The second round finds no free slot and starts over.
  for (int32_t window = 0; window < 2 * kMaxKvGroups; ++window) {
    const FoundPlan found(plans.For(kind(window), /*captured=*/false), stream.get());
    ASSERT_EQ(Synchronize(stream.get()), nullptr);
    found.ExpectAsPlanned();
  }
  EXPECT_DEATH(plans.For(kind(1), /*captured=*/true), "before it is captured");
  plans.For(kind(2 * kMaxKvGroups - 1), /*captured=*/true);
  EXPECT_DEATH(plans.For(kind(2 * kMaxKvGroups), /*captured=*/false), "keeps its place");
}

}  // namespace
}  // namespace baram::cuda
