// TraceDevice: records ops, asks the target, touches no memory.
#include <gtest/gtest.h>

#include "kernels/ref/ref_device.h"
#include "kernels/trace/trace_device.h"

namespace baram {
namespace {

TEST(TraceDeviceTest, RecordsEveryKindOfOpOnceAndAsksTheTarget) {
  std::string error;
  const std::unique_ptr<Device> ref = OpenRefDevice({}, &error);
  TraceDevice trace(*ref);
  EXPECT_EQ(trace.Info().name, "ref");

  // More than any machine has: it is not backed by memory.
  const Buffer memory = trace.Alloc(int64_t{1} << 50);
  const Buffer other = trace.Alloc(64);
  ASSERT_NE(memory.data(), nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % 64, 0u);
  EXPECT_GE(static_cast<char*>(other.data()) - static_cast<char*>(memory.data()), int64_t{1} << 50);
  trace.Upload(memory.data(), nullptr, 1 << 30);

  const Tensor x = DenseTensor(memory.data(), DType::kF32, 4, 8);
  trace.Norm({.x = x, .out = x});
  trace.Norm({.x = x, .out = x});
  trace.GatherRows({.x = x, .out = x.Rows(2)});
  EXPECT_EQ(trace.UnsupportedSentences(), "");

  const Tensor bf16 = DenseTensor(memory.data(), DType::kBF16, 4, 8);
  trace.Norm({.x = bf16, .out = bf16});       // ref has no bf16
  trace.Norm({.x = x, .out = x.Cols(0, 4)});  // fits no device
  ASSERT_EQ(trace.Entries().size(), 4u);
  EXPECT_EQ(trace.Entries()[0].count, 2);
  EXPECT_EQ(trace.Entries()[0].description, "Norm f32[4, 8] -> f32[4, 8]");
  EXPECT_EQ(trace.UnsupportedSentences(),
            "Norm bf16[4, 8] -> bf16[4, 8]: Norm: ref computes in f32 only\n"
            "Norm f32[4, 8] -> f32[4, 4]: Norm: out has 4 columns, x 8\n");
}

TEST(TraceDeviceTest, AStepHasTheCountsOfItsRows) {
  std::string error;
  const std::unique_ptr<Device> ref = OpenRefDevice({}, &error);
  TraceDevice trace(*ref);
  EXPECT_TRUE(trace.ReserveSlots({.slots = 2,
                                  .groups = 1,
                                  .max_pages_per_slot = 3,
                                  .max_step_tokens = 5,
                                  .max_step_outputs = 5}));
  const std::vector<Row> rows = {{.slot = 0, .continues = true, .draws = true},
                                 {.slot = 1, .count = 4, .scores = 3, .draws = true}};
  const std::vector<int32_t> ids(4);
  const std::vector<int32_t> targets(3);
  const StepView view = trace.BeginStep(
      {.inits = {}, .page_deltas = {}, .rows = rows, .tokens = ids, .targets = targets});
  EXPECT_EQ(view.tokens, 5);
  EXPECT_EQ(view.rows, 2);
  EXPECT_EQ(view.outputs, 5);
  EXPECT_EQ(view.max_pages_per_slot, 3);
}

// A step on which a device would abort is rejected by the trace too.
TEST(TraceDeviceDeathTest, AStepKeepsToTheRules) {
  std::string error;
  const std::unique_ptr<Device> ref = OpenRefDevice({}, &error);
  TraceDevice trace(*ref);
  EXPECT_TRUE(trace.ReserveSlots({.slots = 1, .groups = 1, .max_step_tokens = 4}));
  const std::vector<Row> rows = {{.slot = 0, .count = 5}};
  const std::vector<int32_t> ids(5);
  EXPECT_DEATH(
      trace.BeginStep({.inits = {}, .page_deltas = {}, .rows = rows, .tokens = ids, .targets = {}}),
      "max_step_tokens");
}

}  // namespace
}  // namespace baram
