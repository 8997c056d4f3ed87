// What the op cases cannot test about the CPU device: the accuracy of its exponential, identical
// bits on every instruction set, the division of attention into units, and chunk invariance of
// whole sequences.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/attend_plan.h"
#include "kernels/cpu/cpu_facts.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/device.h"
#include "kernels/float_types.h"

namespace baram::cpu {
namespace {

// The kernel tables that this machine can run, in the mode their kernels expect.
std::vector<const KernelTable*> Tables() {
  std::vector<const KernelTable*> tables;
  const Isa best = ReadCpuFacts().best_isa;
  if (best >= Isa::kAvx2) tables.push_back(&kAvx2Kernels);
  if (best >= Isa::kAvx512) tables.push_back(&kAvx512Kernels);
  if (best >= Isa::kAvx512Bf16) tables.push_back(&kAvx512Bf16Kernels);
  if (best >= Isa::kAmx) tables.push_back(&kAmxKernels);
  return tables;
}

std::vector<float> RandomRow(int64_t n, float scale, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> row(n);
  for (float& x : row) x = normal(random);
  return row;
}

// AddNorm without a norm, and with nothing to add, only rounds.
TEST(CpuRounding, IsToNearestEvenAndKeepsNansOnEveryInstructionSet) {
  std::vector<uint32_t> bits = {0x00000000, 0x80000000, 0x3f800000, 0x3f808000, 0x3f808001,
                                0x3f818000, 0xbf807fff, 0x7f7f7fff, 0x7f7f8000, 0x7f7fffff,
                                0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345,
                                0x7fffffff, 0x00800000};
  std::mt19937 random(3);
  while (bits.size() < 16 * 1024 + 5) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    const int kind = std::fpclassify(x);  // computing quiets a NaN and flushes a denormal
    if (kind != FP_NAN && kind != FP_SUBNORMAL) bits.push_back(std::bit_cast<uint32_t>(x));
  }
  const int64_t n = static_cast<int64_t>(bits.size());
  std::vector<float> branch(n, -0.0f);  // preserves minus zero
  for (const KernelTable* table : Tables()) {
    table->enter_thread();
    std::vector<float> residual(n);
    std::memcpy(residual.data(), bits.data(), n * sizeof(float));
    std::vector<uint16_t> out(n);
    AddNormJob job;
    job.branch = DenseTensor(branch.data(), DType::kF32, 1, n);
    job.residual = DenseTensor(residual.data(), DType::kF32, 1, n);
    job.out = DenseTensor(out.data(), DType::kBF16, 1, n);
    table->add_norm(job, 0, 1, Worker());
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(out[i], BF16FromF32(std::bit_cast<float>(bits[i])))
          << table->isa << ", element " << i << ", bits " << std::hex << bits[i];
    }
  }
}

TEST(CpuExp, IsAccurateOverItsRange) {
  std::vector<float> x;
  for (float value = -87.0f; value < 88.0f; value += 0.00731f) x.push_back(value);
  x.push_back(0.0f);
  for (const KernelTable* table : Tables()) {
    table->enter_thread();
    std::vector<float> out(x.size());
    table->sample.exp(x.data(), x.size(), out.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      worst = std::max(worst, std::fabs(out[i] / std::exp(double{x[i]}) - 1));
    }
    EXPECT_LT(worst, 7e-7) << table->isa;
    EXPECT_EQ(out.back(), 1.0f) << table->isa;
  }
}

TEST(CpuExp, HasItsLimits) {
  const std::vector<float> x = {-INFINITY, -89.0f, 89.0f, INFINITY, NAN};
  for (const KernelTable* table : Tables()) {
    table->enter_thread();
    std::vector<float> out(x.size());
    table->sample.exp(x.data(), x.size(), out.data());
    EXPECT_EQ(out[0], 0.0f) << table->isa;
    EXPECT_EQ(out[1], 0.0f) << table->isa;
    EXPECT_EQ(out[2], INFINITY) << table->isa;
    EXPECT_EQ(out[3], INFINITY) << table->isa;
    EXPECT_TRUE(std::isnan(out[4])) << table->isa;
  }
}

TEST(CpuPasses, HaveTheSameBitsOnEveryInstructionSet) {
  for (const int64_t n : {1, 15, 16, 17, 63, 64, 65, 1000, 4099}) {
    const std::vector<float> row = RandomRow(n, 4.0f, static_cast<uint32_t>(n));
    std::vector<float> first_max, first_exp;
    float first_sum = 0;
    for (const KernelTable* table : Tables()) {
      table->enter_thread();
      std::vector<float> chunk_max((n + kChunk - 1) / kChunk), exps(n);
      ASSERT_TRUE(table->sample.chunk_max(row.data(), n, chunk_max.data()));
      table->sample.exp(row.data(), n, exps.data());
      const float sum = table->sample.exp_sum(row.data(), n, 1.0f, -2.0f);
      if (first_max.empty()) {
        for (size_t chunk = 0; chunk < chunk_max.size(); ++chunk) {
          const auto begin = row.begin() + chunk * kChunk;
          const auto end = row.begin() + std::min<int64_t>(n, (chunk + 1) * kChunk);
          EXPECT_EQ(chunk_max[chunk], *std::max_element(begin, end));
        }
        double expected = 0;
        for (float x : row) expected += x >= -2.0f ? std::exp(double{x} - 1) : 0;
        EXPECT_NEAR(sum, expected, 1e-5 * expected);
        first_max = chunk_max;
        first_exp = exps;
        first_sum = sum;
      }
      EXPECT_EQ(chunk_max, first_max) << table->isa << " n " << n;
      EXPECT_EQ(exps, first_exp) << table->isa << " n " << n;
      EXPECT_EQ(sum, first_sum) << table->isa << " n " << n;
    }
  }
}

TEST(CpuPasses, SeeWhatIsNotFinite) {
  for (const KernelTable* table : Tables()) {
    table->enter_thread();
    for (const int64_t where : {0, 77, 130}) {
      for (const float bad : {NAN, -NAN, INFINITY}) {
        std::vector<float> row(131, 1.0f);
        float chunk_max[3];
        row[5] = -INFINITY;
        EXPECT_TRUE(table->sample.chunk_max(row.data(), 131, chunk_max)) << table->isa;
        row[where] = bad;
        EXPECT_FALSE(table->sample.chunk_max(row.data(), 131, chunk_max)) << table->isa;
      }
    }
  }
}

// Rows of a step: (first position, tokens).
using Rows = std::vector<std::pair<int32_t, int32_t>>;

TEST(AttendPlan, CoversEveryTokenOnceAndLongestFirst) {
  const Rows rows = {{700, 1}, {0, 1}, {31, 1}, {0, 100}, {64, 33}, {5, 32}};
  std::vector<int32_t> positions, row_begin = {0}, row_slots;
  for (const auto& [first, count] : rows) {
    for (int32_t i = 0; i < count; ++i) positions.push_back(first + i);
    row_begin.push_back(static_cast<int32_t>(positions.size()));
    row_slots.push_back(10 + static_cast<int32_t>(row_slots.size()));
  }
  StepView step;
  step.tokens = static_cast<int32_t>(positions.size());
  step.rows = static_cast<int32_t>(rows.size());
  step.positions = positions.data();
  step.row_begin = row_begin.data();
  step.row_slots = row_slots.data();
  for (const HeadShape head : {HeadShape{8, 8, 64}, HeadShape{32, 8, 64}, HeadShape{14, 2, 64},
                               HeadShape{40, 1, 64}, HeadShape{64, 2, 128}}) {
    for (const int32_t window : {0, 50}) {
      std::vector<AttendRun> runs(step.tokens);
      runs.resize(PlanAttend(step, TokensPerUnit(head), window, runs.data()));
      ASSERT_LE(TokensPerUnit(head) * HeadsPerUnit(head), kUnitRows);
      std::vector<int> seen(step.tokens, 0);
      int32_t before = INT32_MAX;
      for (const AttendRun& run : runs) {
        ASSERT_LE(run.count, TokensPerUnit(head));
        for (int32_t i = 0; i < run.count; ++i) {
          ++seen[run.token + i];
          EXPECT_EQ(positions[run.token + i], run.position + i);
          EXPECT_GE(run.token + i, row_begin[run.slot - 10]);
          EXPECT_LT(run.token + i, row_begin[run.slot - 10 + 1]);
        }
        const int32_t keys = std::min(run.position + run.count, window > 0 ? window : INT32_MAX);
        EXPECT_LE(keys, before);
        before = keys;
      }
      EXPECT_THAT(seen, testing::Each(1));
      const int32_t group = head.heads / head.kv_heads;
      const int64_t groups = std::ssize(runs) * head.kv_heads;
      for (const int32_t workers : {1, 2, 7, 64, 512}) {
        const int32_t heads = HeadsPerUnit(head, std::ssize(runs), workers);
        const int64_t units = AttendUnits(head, std::ssize(runs), heads);
        EXPECT_LE(heads, HeadsPerUnit(head));
        EXPECT_EQ(units % groups, 0);
        EXPECT_GE(units / groups * heads, group);
        EXPECT_LT((units / groups - 1) * heads, group);
        // No worker is idle that could take half of another's heads.
        EXPECT_TRUE(heads == 1 || 2 * units > workers) << workers;
        EXPECT_TRUE(heads == HeadsPerUnit(head) || units <= workers) << "cut for nobody";
      }
    }
  }
}

// StoreKv and Attend of one sequence of `tokens` tokens in steps of `chunk`; bf16 bits of the
// output.
std::vector<uint16_t> RunSequence(const std::string& isa, int32_t threads, const HeadShape& head,
                                  int32_t page_tokens, int32_t window, int32_t tokens,
                                  int32_t chunk) {
  std::string error;
  const std::unique_ptr<Device> device =
      OpenDevice("cpu", {.threads = threads, .isa = isa}, &error);
  EXPECT_NE(device, nullptr) << error;
  const KvShape shape = {head, 1, page_tokens};
  const int32_t pages = (tokens + page_tokens - 1) / page_tokens;
  KvPool pool = {nullptr, shape, device->KvBytesPerPage(shape), pages};
  const Buffer memory = device->Alloc(pool.page_bytes * pages);
  std::memset(memory.data(), 0xff, pool.page_bytes * pages);  // NaN
  pool.data = memory.data();
  const SlotShape slots = {1, 1, pages, 16, tokens, 1};
  EXPECT_TRUE(device->ReserveSlots(slots));
  const Buffer scratch = device->Alloc(device->AttendScratchBytes(shape, slots));

  const int32_t q_columns = head.heads * head.head_dim;
  const int32_t columns = q_columns + 2 * head.kv_heads * head.head_dim;
  const std::vector<float> values = RandomRow(int64_t{tokens} * columns, 1.0f, 7);
  std::vector<uint16_t> qkv(values.size());
  std::transform(values.begin(), values.end(), qkv.begin(), BF16FromF32);
  std::vector<uint16_t> out(int64_t{tokens} * q_columns);

  std::vector<PageDelta> deltas;
  for (int32_t i = 0; i < pages; ++i) deltas.push_back({0, 0, i, pages - 1 - i});
  const SlotInit init = {.slot = 0, .sampling = {}, .tokens = {}, .bias = {}, .stop_ids = {}};
  device->BeginStep(
      {.inits = {&init, 1}, .page_deltas = deltas, .rows = {}, .tokens = {}, .targets = {}});
  for (int32_t begin = 0; begin < tokens; begin += chunk) {
    const int32_t count = std::min(chunk, tokens - begin);
    const std::vector<int32_t> ids(count, 1);
    const Row row = {.slot = 0, .count = count};
    const StepView step = device->BeginStep(
        {.inits = {}, .page_deltas = {}, .rows = {&row, 1}, .tokens = ids, .targets = {}});
    StoreKvArgs store;
    store.step = step;
    store.pool = pool;
    store.qkv = DenseTensor(qkv.data() + int64_t{begin} * columns, DType::kBF16, count, columns);
    device->StoreKv(store);
    AttendArgs attend;
    attend.step = step;
    attend.pool = pool;
    attend.q = store.qkv.Cols(0, q_columns);
    attend.window = window;
    attend.scale = 1.0f / std::sqrt(static_cast<float>(head.head_dim));
    attend.out =
        DenseTensor(out.data() + int64_t{begin} * q_columns, DType::kBF16, count, q_columns);
    attend.scratch = scratch.data();
    device->Attend(attend);
  }
  return out;
}

TEST(CpuAttend, BitsDoNotDependOnChunksPagesThreadsOrInstructionSet) {
  constexpr int32_t kTokens = 220;  // two blocks of keys
  for (const HeadShape head : {HeadShape{3, 3, 24}, HeadShape{8, 2, 64}, HeadShape{10, 2, 80},
                               HeadShape{7, 1, 128}, HeadShape{40, 1, 32}, HeadShape{2, 1, 256}}) {
    for (const int32_t window : {0, 120}) {
      const std::vector<uint16_t> whole =
          RunSequence("avx2", 1, head, 64, window, kTokens, kTokens);
      const bool finite = std::none_of(whole.begin(), whole.end(),
                                       [](uint16_t x) { return (x & 0x7fff) >= 0x7f80; });
      EXPECT_TRUE(finite);
      for (const KernelTable* table : Tables()) {
        for (const int32_t chunk : {1, 7, 32, 33, 64, kTokens}) {
          // Enough to cut the heads of a few rows.
          const int32_t threads = chunk == 1 ? 5 : chunk == 7 ? 16 : 1;
          EXPECT_EQ(
              RunSequence(table->isa, threads, head, chunk == 33 ? 32 : 64, window, kTokens, chunk),
              whole)
              << table->isa << ", heads of " << head.head_dim << ", chunks of " << chunk
              << ", window " << window;
        }
      }
    }
  }
}

}  // namespace
}  // namespace baram::cpu
