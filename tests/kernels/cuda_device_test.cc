// CudaDevice on the emulation: steps against the host's slots, transfers, events, and its loss.
#include "kernels/cuda/cuda_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/emulation/streams.h"
#include "kernels/cuda/pack.h"
#include "kernels/float_types.h"
#include "kernels/slots.h"

namespace baram::cuda {
namespace {

DeviceOptions Which(const std::string& which) {
  DeviceOptions options;
  options.which = which;
  return options;
}

std::unique_ptr<Device> Open(const std::string& which = "") {
  std::string error;
  std::unique_ptr<Device> device = OpenCudaDevice(Which(which), &error);
  EXPECT_NE(device, nullptr) << error;
  return device;
}

template <typename T>
std::vector<T> Fetch(Device& device, const T* from, int64_t count) {
  std::vector<T> host(count);
  device.Download(host.data(), from, count * static_cast<int64_t>(sizeof(T)));
  EXPECT_TRUE(device.Wait(device.Record()));
  return host;
}

TEST(CudaDevice, SaysWhatItIs) {
  const auto device = Open("0");
  EXPECT_EQ(device->Info().name, "cuda:0");
  EXPECT_EQ(device->Info().isa, "sm_90a");
  EXPECT_EQ(device->Info().planning_depth, 2);
  std::string error;
  EXPECT_EQ(OpenCudaDevice(Which("7"), &error), nullptr);
  DeviceOptions options;
  options.isa = "sm_100a";
  EXPECT_EQ(OpenCudaDevice(options, &error), nullptr);
  EXPECT_EQ(error, "the cuda device has no isa \"sm_100a\"; this binary has sm_90a");
  EXPECT_EQ(CudaArchitectures(), "sm_90a");
}

TEST(CudaDevice, DownloadsArriveWithTheirMark) {
  const auto device = Open();
  const Buffer memory = device->Alloc(64);
  int32_t value = 41;
  device->Upload(memory.data(), &value, sizeof(value));
  value = 42;
  int32_t first = -1;
  int32_t second = -1;
  device->Download(&first, memory.data(), sizeof(first));
  const uint64_t mark = device->Record();
  device->Upload(memory.data(), &value, sizeof(value));
  device->Download(&second, memory.data(), sizeof(second));
  const uint64_t later = device->Record();
  EXPECT_EQ(first, -1);
  EXPECT_TRUE(device->Wait(mark));
  EXPECT_EQ(first, 41);
  EXPECT_EQ(second, -1);
  EXPECT_TRUE(device->Wait(later));
  EXPECT_EQ(second, 42);
}

// From its first error on the device computes nothing that could be trusted.
TEST(CudaDevice, AFailedLaunchLosesTheDevice) {
  std::vector<std::string> lost;
  DeviceOptions options;
  options.lost = [&lost](const std::string& sentence) { lost.push_back(sentence); };
  std::string error;
  const auto device = OpenCudaDevice(options, &error);
  ASSERT_NE(device, nullptr) << error;
  const Buffer memory = device->Alloc(64);
  const Tensor row = DenseTensor(memory.data(), DType::kF32, 1, 8);
  int32_t got = -1;
  for (const Error failure :
       {emulation::kInvalid, static_cast<Error>(nullptr), emulation::kNoMemory}) {
    emulation::FailLaunch(failure);
    device->Norm({.x = row, .weight = static_cast<const float*>(memory.data()), .out = row});
    device->Download(&got, memory.data(), sizeof(got));
    EXPECT_FALSE(device->Wait(device->Record()));
    EXPECT_EQ(got, -1) << "nothing of a lost device is delivered";
  }
  EXPECT_THAT(lost, ::testing::ElementsAre("cuda:0 is lost: invalid argument"));
}

TEST(CudaDevice, DownloadsOfAnySizeAndNumberArrive) {
  const auto device = Open();
  constexpr int64_t kCount = 1 << 20;
  const Buffer memory = device->Alloc(kCount * 4);
  std::vector<int32_t> values(kCount);
  for (int64_t i = 0; i < kCount; ++i) values[i] = static_cast<int32_t>(i);
  device->Upload(memory.data(), values.data(), kCount * 4);
  std::mt19937 random(5);
  const auto* from = static_cast<const int32_t*>(memory.data());
  std::vector<std::vector<int32_t>> downloads;
  std::vector<int64_t> begins;
  uint64_t previous = device->Record();
  for (int step = 0; step < 40; ++step) {
    for (int i = 0; i < 4; ++i) {
      const int64_t count = 1 + random() % (step % 10 == 9 ? kCount / 2 : 40000);
      begins.push_back(random() % (kCount - count));
      downloads.emplace_back(count);
      device->Download(downloads.back().data(), from + begins.back(), count * 4);
    }
    const uint64_t mark = device->Record();
    ASSERT_TRUE(device->Wait(previous));
    previous = mark;
  }
  ASSERT_TRUE(device->Wait(previous));
  for (size_t i = 0; i < downloads.size(); ++i) {
    for (size_t j = 0; j < downloads[i].size(); ++j) {
      ASSERT_EQ(downloads[i][j], values[begins[i] + static_cast<int64_t>(j)]);
    }
  }
}

// The limit is the longest row that a staging piece for weights holds.
TEST(CudaDevice, RefusesWeightsWhoseRowsAreTooLong) {
  const auto device = Open();
  const auto unsupported = [&](int64_t k) {
    return device->Unsupported(
        GemmArgs{.a = DenseTensor(nullptr, DType::kBF16, 1, k),
                 .weight = {.data = nullptr, .shape = {8, k, device->Info().weights}},
                 .out = DenseTensor(nullptr, DType::kBF16, 1, 8)});
  };
  EXPECT_EQ(unsupported(1 << 20), "");
  EXPECT_EQ(unsupported((1 << 20) + 1), "Gemm: a row of the weight has more than 1048576 elements");
}

// GPUs with less shared memory than an H100 compute shorter rows and heads.
TEST(CudaDevice, RefusesWhatItsSharedMemoryDoesNotHold) {
  GpuFacts facts;
  facts.multiprocessors = 170;
  facts.shared_bytes_per_block = 99 << 10;
  const CudaDevice device(0, facts, {}, {});
  const auto norm = [&](int64_t columns) {
    const Tensor row = DenseTensor(nullptr, DType::kF32, 1, columns);
    return device.Unsupported(NormArgs{.x = row, .out = row});
  };
  EXPECT_EQ(norm((99 << 8) - 32), "");
  EXPECT_EQ(norm((99 << 8) - 31),
            "Norm: a block needs 101380 bytes of shared memory, this GPU has 101376");
  const auto attend = [&](int32_t head_dim) {
    const Tensor row = DenseTensor(nullptr, DType::kBF16, 1, head_dim);
    AttendArgs args;
    args.step.tokens = 1;
    args.pool.shape = {.head = {1, 1, head_dim}, .layers_per_group = 1, .page_tokens = 16};
    args.q = args.out = row;
    return device.Unsupported(args);
  };
  EXPECT_EQ(attend(128), "");
  EXPECT_EQ(attend(256),
            "Attend: a block needs 163840 bytes of shared memory, this GPU has 101376");
}

TEST(CudaDevice, PacksWeightsFromSeveralThreads) {
  const auto device = Open();
  const WeightShape shape{4000, 1500, device->Info().weights};
  std::vector<float> source(shape.n * shape.k);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<float>(i % 251) - 125;
  const Buffer packed = device->Alloc(device->PackedBytes(shape));
  std::vector<std::thread> threads;
  constexpr int64_t kParts = 20;  // more than there are staging pieces
  for (int64_t part = 0; part < kParts; ++part) {
    threads.emplace_back([&, part] {
      const int64_t begin = shape.n * part / kParts;
      const int64_t rows = shape.n * (part + 1) / kParts - begin;
      device->PackWeight(shape, {source.data() + begin * shape.k, DType::kF32, rows}, begin,
                         packed.data());
    });
  }
  for (std::thread& thread : threads) thread.join();
  const int64_t stride = PackedStride(shape);
  EXPECT_EQ(stride, 1504);
  const auto bits = Fetch(*device, static_cast<const uint16_t*>(packed.data()), shape.n * stride);
  for (int64_t n = 0; n < shape.n; ++n) {
    for (int64_t k = 0; k < stride; ++k) {
      const float want = k < shape.k ? source[n * shape.k + k] : 0.0f;
      ASSERT_EQ(F32FromBF16(bits[n * stride + k]), want) << n << ", " << k;
    }
  }
}

SlotShape SmallSlots() {
  return {.slots = 5,
          .groups = 2,
          .max_pages_per_slot = 9,
          .vocab_size = 101,
          .max_step_tokens = 64,
          .max_step_outputs = 16};
}

// Everything the device allocates besides Alloc is announced beforehand: free memory shrinks by
// exactly that.
TEST(CudaDevice, TellsTheMemoryItTakesForItself) {
  int64_t before = 0;
  ASSERT_EQ(FreeMemory(&before), nullptr);
  const auto device = Open();
  EXPECT_TRUE(device->Info().own_memory);
  EXPECT_EQ(device->Info().free_bytes, before);
  SlotShape shape = SmallSlots();
  shape.vocab_size = 300'000;
  shape.max_step_tokens = 5000;
  shape.max_pages_per_slot = 70'000;
  const int64_t told = device->OwnUse(shape).state_bytes;
  ASSERT_TRUE(device->ReserveSlots(shape));
  int64_t after = 0;
  ASSERT_EQ(FreeMemory(&after), nullptr);
  EXPECT_EQ(before - after, told);
  EXPECT_LT(device->OwnUse(SmallSlots()).state_bytes, told);
  const Buffer buffer = device->Alloc(3'000'000);
  int64_t last = 0;
  ASSERT_EQ(FreeMemory(&last), nullptr);
  EXPECT_EQ(after - last, TakenBytes(device->Info(), 3'000'000));
}

void ExpectSameStep(Device& device, const StepView& got, const StepView& want,
                    const SlotShape& shape) {
  ASSERT_EQ(got.tokens, want.tokens);
  ASSERT_EQ(got.rows, want.rows);
  ASSERT_EQ(got.outputs, want.outputs);
  ASSERT_EQ(got.live_outputs, want.live_outputs);
  const auto expect_same = [&](const char* what, const int32_t* a, const int32_t* b, int64_t n) {
    EXPECT_EQ(Fetch(device, a, n), std::vector<int32_t>(b, b + n)) << what;
  };
  expect_same("token_ids", got.token_ids, want.token_ids, want.tokens);
  expect_same("positions", got.positions, want.positions, want.tokens);
  expect_same("token_slots", got.token_slots, want.token_slots, want.tokens);
  if (want.rows > 0) expect_same("row_begin", got.row_begin, want.row_begin, want.rows + 1);
  expect_same("row_slots", got.row_slots, want.row_slots, want.rows);
  expect_same("output_tokens", got.output_tokens, want.output_tokens, want.outputs);
  expect_same("output_slots", got.output_slots, want.output_slots, want.outputs);
  expect_same("output_targets", got.output_targets, want.output_targets, want.outputs);
  for (int32_t group = 0; group < shape.groups; ++group) {
    expect_same("page_tables", got.page_tables[group], want.page_tables[group],
                int64_t{shape.slots} * shape.max_pages_per_slot);
  }
  EXPECT_EQ(got.max_pages_per_slot, want.max_pages_per_slot);
}

// A StepInput's parts, and the step made of them.
struct RandomStep {
  std::vector<SlotInit> inits;
  std::vector<PageDelta> pages;
  std::vector<Row> rows;
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  int32_t padded_rows = 0;
  StepInput Input() const { return {inits, pages, rows, tokens, targets, padded_rows}; }
};

// `decodes`: one-token rows that all draw, and padding.
RandomStep DrawStep(const SlotShape& shape, bool decodes, std::mt19937& random) {
  const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % n); };
  RandomStep step;
  for (int32_t slot = 0; slot < shape.slots; ++slot) {
    if (below(4) == 0) {
      SlotInit init;
      init.slot = slot;
      init.length = below(30);
      step.inits.push_back(init);
    }
    // Each entry at most once.
    for (int32_t group = 0; group < shape.groups; ++group) {
      for (int32_t index = below(4); index < shape.max_pages_per_slot; index += 1 + below(6)) {
        step.pages.push_back({slot, group, index, below(1000)});
      }
    }
    if (below(3) == 0) continue;
    Row row{.slot = slot, .count = decodes ? 1 : 1 + below(9), .draws = true};
    if (!decodes) {
      row.scores = below(std::min(row.count, 2) + 1);
      row.draws = below(2) == 0;
    }
    for (int32_t i = 0; i < row.count; ++i) step.tokens.push_back(below(shape.vocab_size));
    for (int32_t i = 0; i < row.scores; ++i) step.targets.push_back(below(shape.vocab_size));
    step.rows.push_back(row);
  }
  if (decodes) step.padded_rows = std::max<int32_t>(1, std::ssize(step.rows) + below(4));
  return step;
}

// Random steps on the device and on the host's SlotTable, which defines their meaning.
TEST(CudaDevice, StepsExpandAsTheHostsSlotsDo) {
  const auto device = Open();
  const SlotShape shape = SmallSlots();
  ASSERT_TRUE(device->ReserveSlots(shape));
  SlotTable table;
  table.Reserve(shape);
  std::mt19937 random(7);
  for (int step = 0; step < 60; ++step) {
    const RandomStep drawn = DrawStep(shape, step % 3 == 2, random);
    const StepView want = table.BeginStep(drawn.Input());
    const StepView got = device->BeginStep(drawn.Input());
    ASSERT_NO_FATAL_FAILURE(ExpectSameStep(*device, got, want, shape)) << "step " << step;
  }
}

// The emulated stream executes work when it must, and reports host time for it.
TEST(CudaDevice, TellsHowLongAStepTookAndWhatWasBeforeIt) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
  };
  const auto device = Open();
  const SlotShape shape = SmallSlots();
  ASSERT_TRUE(device->ReserveSlots(shape));
  std::mt19937 random(3);
  const auto step = [&] {
    device->BeginStep(DrawStep(shape, false, random).Input());
    return device->Record();
  };
  ASSERT_TRUE(device->Wait(device->Record()));
  const auto begin = Clock::now();
  const uint64_t first = step();
  const uint64_t second = step();
  ASSERT_TRUE(device->Wait(first));
  const StepTime first_time = device->TimeOf(first);
  EXPECT_GT(first_time.busy_s, 0);
  EXPECT_GT(first_time.gap_s, 0);
  constexpr double kPause = 0.02;
  std::this_thread::sleep_for(std::chrono::duration<double>(kPause));
  ASSERT_TRUE(device->Wait(second));
  const double all = seconds(begin);
  const StepTime second_time = device->TimeOf(second);
  EXPECT_GT(second_time.busy_s, 0);
  EXPECT_GE(second_time.gap_s, kPause) << "the stream stood still between the two steps";
  EXPECT_LT(first_time.busy_s + second_time.busy_s + second_time.gap_s, all);
  const uint64_t no_step = device->Record();
  ASSERT_TRUE(device->Wait(no_step));
  EXPECT_EQ(device->TimeOf(no_step).busy_s, 0);
  EXPECT_EQ(device->TimeOf(no_step).gap_s, 0);
  EXPECT_TRUE(device->Wait(device->Record())) << "nothing failed";
}

// Nothing waits between the steps, so a staging buffer that is overwritten too early shows.
TEST(CudaDevice, StepsThatNobodyWaitsForExpandAlike) {
  const auto device = Open();
  const SlotShape shape = SmallSlots();
  ASSERT_TRUE(device->ReserveSlots(shape));
  SlotTable table;
  table.Reserve(shape);
  std::mt19937 random(9);
  std::vector<std::vector<int32_t>> want, got;
  constexpr int kSteps = 9;
  got.reserve(2 * kSteps);
  for (int step = 0; step < kSteps; ++step) {
    const RandomStep drawn = DrawStep(shape, false, random);
    const StepView host = table.BeginStep(drawn.Input());
    const StepView view = device->BeginStep(drawn.Input());
    const auto download = [&](const int32_t* on_host, const int32_t* on_device) {
      want.emplace_back(on_host, on_host + host.tokens);
      got.emplace_back(host.tokens, -1);
      device->Download(got.back().data(), on_device, host.tokens * int64_t{4});
    };
    download(host.token_ids, view.token_ids);
    download(host.positions, view.positions);
  }
  ASSERT_TRUE(device->Wait(device->Record()));
  EXPECT_EQ(got, want);
}

// More deltas and a longer history than one block holds: several copies, the same result.
TEST(CudaDevice, AStepMayBringMoreThanABlockHolds) {
  const auto device = Open();
  SlotShape shape = SmallSlots();
  shape.max_pages_per_slot = 60000;
  ASSERT_TRUE(device->ReserveSlots(shape));
  SlotTable table;
  table.Reserve(shape);
  std::vector<PageDelta> pages;
  for (int32_t i = 0; i < 4 * shape.max_pages_per_slot; ++i) {
    pages.push_back({i % shape.slots, i % 2, i / 4, i});
  }
  const std::vector<int32_t> history(400000, 3);
  SlotInit init;
  init.slot = 2;
  init.prompt_tokens = 100;
  init.sampling.frequency_penalty = 1;
  init.tokens = history;
  const Row row{.slot = 2, .count = 2};
  const int32_t tokens[] = {5, 6};
  const StepInput input{{&init, 1}, pages, {&row, 1}, tokens, {}};
  const StepView want = table.BeginStep(input);
  ExpectSameStep(*device, device->BeginStep(input), want, shape);
}

}  // namespace
}  // namespace baram::cuda
