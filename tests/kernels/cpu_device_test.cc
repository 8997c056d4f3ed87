// The CPU device: opening, instruction sets, memory, embedding, floating-point mode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/cpu_facts.h"
#include "kernels/cpu/open_cpu.h"
#include "kernels/device.h"
#include "kernels/float_types.h"
#include "tests/scarce_threads.h"

namespace baram {
namespace {

std::unique_ptr<Device> Open(const DeviceOptions& options, std::string* error) {
  return OpenDevice("cpu", options, error);
}

bool CpuIsUsable() { return cpu::ReadCpuFacts().best_isa != cpu::Isa::kNone; }

#ifndef __SANITIZE_ADDRESS__  // which aborts instead
TEST(CpuDevice, HasNoSlotsWithoutMemoryForThem) {
  std::vector<std::string> names = {"ref"};
  if (CpuIsUsable()) names.push_back("cpu");
  for (const std::string& name : names) {
    std::string error;
    const auto device = OpenDevice(name, {.threads = 1}, &error);
    ASSERT_NE(device, nullptr) << error;
    SlotShape shape{.slots = 40'000,  // 4 GiB of address space each
                    .groups = 1,
                    .max_pages_per_slot = 1,
                    .vocab_size = std::numeric_limits<int32_t>::max(),
                    .max_step_tokens = 1,
                    .max_step_outputs = 1};
    EXPECT_FALSE(device->ReserveSlots(shape)) << name;
    shape.vocab_size = 100;
    EXPECT_TRUE(device->ReserveSlots(shape)) << name << " still works";
  }
}
#endif

// Tests on every instruction set run on those that are detected: none may be missed.
TEST(CpuDevice, FindsWhatTheKernelSaysTheProcessorHas) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("flags")) {
  }
  const auto has = [&](std::initializer_list<const char*> flags) {
    return std::ranges::all_of(flags, [&](const char* flag) {
      return (line + " ").find(std::string(" ") + flag + " ") != std::string::npos;
    });
  };
  std::string best = "none";
  if (has({"avx2", "fma", "f16c"})) best = "avx2";
  if (has({"avx512f", "avx512dq", "avx512bw", "avx512vl"})) {
    best = "avx512";
    if (has({"avx512_bf16"}) && cpu::Bf16DotFollowsOrder()) best = "avx512_bf16";
    // If the kernel grants permission, as it does for all that it lists.
    if (has({"avx512_bf16", "amx_tile", "amx_bf16"})) best = "amx";
  }
  EXPECT_EQ(best, cpu::IsaName(cpu::ReadCpuFacts().best_isa));
}

TEST(CpuDevice, Bf16DotIsUsedOnlyWhereItIsFaster) {
  using cpu::Isa;
  for (const Isa best : {Isa::kNone, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    EXPECT_EQ(cpu::FastestIsa(best, [] { return true; }), best);
    EXPECT_EQ(cpu::FastestIsa(best, [] { return false; }),
              best == Isa::kAvx512Bf16 ? Isa::kAvx512 : best);
  }
}

TEST(CpuDevice, ChoosesAnInstructionSetThatMayBeUsed) {
  using cpu::Isa;
  const std::string problem = "it rounds as it likes";
  struct Row {
    cpu::CpuFacts facts;
    const char* wanted;
    Isa chosen;  // kNone: refused
    const char* error;
  };
  const Row rows[] = {
      {{.best_isa = Isa::kNone}, "avx2", Isa::kNone, "needs a processor with AVX2"},
      {{.best_isa = Isa::kAvx2, .fastest_isa = Isa::kAvx2}, "", Isa::kAvx2, ""},
      {{.best_isa = Isa::kAvx2},
       "avx512",
       Isa::kNone,
       "does not have avx512; the best it has is avx2"},
      {{.best_isa = Isa::kAvx512Bf16, .fastest_isa = Isa::kAvx512}, "", Isa::kAvx512, ""},
      {{.best_isa = Isa::kAvx512Bf16}, "avx512_bf16", Isa::kAvx512Bf16, ""},
      {{.best_isa = Isa::kAmx, .fastest_isa = Isa::kAmx}, "", Isa::kAmx, ""},
      {{.best_isa = Isa::kAmx}, "avx512_bf16", Isa::kAvx512Bf16, ""},
      {{.best_isa = Isa::kAmx, .bf16_problem = problem}, "avx512_bf16", Isa::kNone, "rounds as it"},
      {{.best_isa = Isa::kAmx, .bf16_problem = problem}, "amx", Isa::kAmx, ""},
      {{.best_isa = Isa::kAvx512, .bf16_problem = problem}, "avx512_bf16", Isa::kNone, "rounds as"},
      {{.best_isa = Isa::kAmx}, "sse9", Isa::kNone, "there is no instruction set \"sse9\""},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(std::string(cpu::IsaName(row.facts.best_isa)) + ", wanted " + row.wanted);
    std::string error;
    EXPECT_EQ(cpu::ChooseIsa(row.facts, row.wanted, &error).value_or(Isa::kNone), row.chosen);
    EXPECT_THAT(error, ::testing::HasSubstr(row.error));
    EXPECT_EQ(error.empty(), row.chosen != Isa::kNone);
  }
}

TEST(CpuDevice, TakesTheFastestUnlessAnotherIsAskedFor) {
  const cpu::CpuFacts facts = cpu::ReadCpuFacts();
  if (facts.best_isa != cpu::Isa::kAvx512Bf16) GTEST_SKIP() << "there is no choice";
  std::string error;
  const auto by_itself = Open({.threads = 1}, &error);
  ASSERT_NE(by_itself, nullptr) << error;
  EXPECT_EQ(by_itself->Info().isa, cpu::IsaName(facts.fastest_isa));
  const auto asked_for = Open({.threads = 1, .isa = "avx512_bf16"}, &error);
  ASSERT_NE(asked_for, nullptr) << error;
  EXPECT_EQ(asked_for->Info().isa, "avx512_bf16");
}

TEST(CpuDevice, SaysWhatItIs) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  std::string error;
  const auto device = Open({.threads = 3, .isa = "avx2"}, &error);
  ASSERT_NE(device, nullptr) << error;
  EXPECT_EQ(device->Info().name, "cpu");
  EXPECT_EQ(device->Info().isa, "avx2");
  EXPECT_EQ(device->Info().workers, 3);
  EXPECT_FALSE(device->Info().matrix_units);
  EXPECT_THAT(device->Info().processor, ::testing::HasSubstr("avx2, 3 threads"));
  EXPECT_EQ(device->Info().planning_depth, 1);
  EXPECT_TRUE(device->Info().exact);
  EXPECT_GT(device->Info().memory_bytes, 0);
}

TEST(CpuDevice, ItsThreadsSuitTheHost) {
  const std::vector<int32_t> nobody;
  const std::vector<int32_t> four = {0, 2, 1, 3};
  const std::vector<int32_t> nine = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  constexpr auto kBrief = std::chrono::microseconds(20);
  constexpr auto kThroughAStep = std::chrono::milliseconds(2);
  struct Row {
    const char* name;
    DeviceOptions options;
    HostFacts host;
    int32_t workers;
    std::vector<int32_t> pinned_to;
    std::chrono::nanoseconds spin;
  };
  const Row rows[] = {
      {"the host's choice", {}, {.processors = four, .default_threads = 2}, 2, nobody, kBrief},
      {"the operator's",
       {.threads = 3},
       {.processors = four, .default_threads = 2},
       3,
       nobody,
       kBrief},
      {"a very large host", {}, {.processors = nine, .default_threads = 600}, 512, nobody, kBrief},
      {"pinned", {.threads = 2, .pin_threads = true}, {.processors = four}, 2, four, kBrief},
      {"a quota of all processors",
       {.threads = 2, .pin_threads = true},
       {.processors = four, .cpu_quota = 4},
       2,
       four,
       kBrief},
      {"a quota of some",
       {.threads = 2, .pin_threads = true},
       {.processors = four, .cpu_quota = 2},
       2,
       nobody,
       kBrief},
      {"few workers", {.threads = 7}, {.processors = nine}, 7, nobody, kBrief},
      {"many workers", {.threads = 8}, {.processors = nine}, 8, nobody, kThroughAStep},
      {"as many as processors", {.threads = 9}, {.processors = nine}, 9, nobody, kThroughAStep},
      {"more", {.threads = 10}, {.processors = nine}, 10, nobody, kBrief},
      {"many with a quota",
       {.threads = 8},
       {.processors = nine, .cpu_quota = 9},
       8,
       nobody,
       kBrief},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const cpu::WorkerPool::Options pool = cpu::PoolOptionsOf(row.options, row.host);
    EXPECT_EQ(pool.workers, row.workers);
    EXPECT_EQ(pool.processors, row.pinned_to);
    EXPECT_EQ(pool.spin, row.spin);
  }
}

TEST(CpuDevice, RefusesWhatItCannotBe) {
  std::string error;
  EXPECT_EQ(Open({.isa = "sse9"}, &error), nullptr);
  if (!CpuIsUsable()) return;
  EXPECT_EQ(error, "there is no instruction set \"sse9\"; choose avx2, avx512, avx512_bf16 or amx");
  EXPECT_EQ(Open({.threads = -1, .isa = ""}, &error), nullptr);
  EXPECT_EQ(error, "the cpu device takes 1 to 512 threads, or 0 for its own choice");
}

TEST(CpuDevice, SaysHowManyThreadsTheSystemGives) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  const int before = testing::ThreadCount();
  std::string error;
  {
    const testing::ScarceThreads scarce(5);
    EXPECT_EQ(Open({.threads = 9, .isa = ""}, &error), nullptr);
    EXPECT_EQ(
        error,
        "the cpu device could start only 6 of 9 threads: lower --threads below that, or raise the "
        "limit on threads (ulimit -u, a pod's pids) or on memory (ulimit -v)");
  }
  EXPECT_TRUE(testing::ThreadsBecome(before)) << "those that were started have ended";
  EXPECT_NE(Open({.threads = 9, .isa = ""}, &error), nullptr) << error;
}

TEST(CpuDevice, MemoryIsZeroedAlignedAndFinite) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  std::string error;
  const auto device = Open({.threads = 1, .isa = ""}, &error);
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{100}, int64_t{5} << 20}) {
    const Buffer buffer = device->Alloc(bytes);
    ASSERT_NE(buffer.data(), nullptr);
    EXPECT_EQ(buffer.bytes(), bytes);
    const int64_t alignment = bytes < (2 << 20) ? 64 : 2 << 20;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % alignment, 0u);
    const auto* data = static_cast<const char*>(buffer.data());
    for (int64_t i = 0; i < bytes; i += 63) ASSERT_EQ(data[i], 0);
  }
  EXPECT_EQ(device->Alloc(int64_t{1} << 60).data(), nullptr);
}

TEST(CpuDevice, SamplesNoMoreTokensThanItReserved) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::string error;
  const auto device = Open({.threads = 1, .isa = ""}, &error);
  ASSERT_TRUE(device->ReserveSlots({.slots = 1,
                                    .groups = 1,
                                    .max_pages_per_slot = 1,
                                    .vocab_size = 16,
                                    .max_step_tokens = 1,
                                    .max_step_outputs = 1}));
  SampleArgs args;
  args.logits = DenseTensor(nullptr, DType::kF32, 0, 32);
  args.valid_vocab = 16;
  device->Sample(args);
  args.valid_vocab = 17;
  EXPECT_DEATH(device->Sample(args), "within the reserved vocabulary");
}

TEST(CpuDevice, RestoresTheCallersFloatingPointMode) {
  if (!CpuIsUsable()) GTEST_SKIP() << "no AVX2 here";
  std::string error;
  const auto device = Open({.threads = 1, .isa = ""}, &error);
  float x[16] = {1}, out[16] = {};
  const int32_t index = 0;
  device->GatherRows(
      {DenseTensor(x, DType::kF32, 1, 16), &index, DenseTensor(out, DType::kF32, 1, 16)});
  EXPECT_EQ(out[0], 1.0f);
  volatile float tiny = 1e-38f;
  EXPECT_GT(tiny / 8, 0.0f);  // a denormal
}

}  // namespace
}  // namespace baram
