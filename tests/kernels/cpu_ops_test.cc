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

// The arrays of a step of such rows, the row's number its slot.
struct PlannedStep {
  explicit PlannedStep(const Rows& rows) {
    for (const auto& [first, count] : rows) {
      for (int32_t i = 0; i < count; ++i) positions.push_back(first + i);
      row_begin.push_back(static_cast<int32_t>(positions.size()));
      row_slots.push_back(static_cast<int32_t>(row_slots.size()));
    }
    view.tokens = static_cast<int32_t>(positions.size());
    view.rows = static_cast<int32_t>(rows.size());
    view.positions = positions.data();
    view.row_begin = row_begin.data();
    view.row_slots = row_slots.data();
  }

  std::vector<int32_t> positions, row_begin = {0}, row_slots;
  StepView view;
};

struct Planned {
  Planned(const PlannedStep& step, const HeadShape& head, int32_t window, int32_t workers)
      : runs(step.positions.size() + kMaxPartials), split_runs(kMaxSplitRuns) {
    const AttendPlan plan =
        PlanAttend(step.view, head, window, workers, runs.data(), split_runs.data());
    runs.resize(plan.run_count);
    split_runs.resize(plan.split_count);
  }

  std::vector<AttendRun> runs, split_runs;
};

// The keys that a run reads.
std::pair<int32_t, int32_t> KeysOf(const AttendRun& run, int32_t window) {
  const int32_t first = window == 0 ? 0 : std::max(0, run.position - window + 1);
  return {std::max(first, run.segment * kSegmentKeys),
          std::min(run.position + run.count, (run.segment + run.segments) * kSegmentKeys)};
}

TEST(AttendPlan, CoversEveryKeyOfEveryTokenOnceAndLongestFirst) {
  const PlannedStep steps[] = {
      PlannedStep({{700, 1}, {0, 1}, {31, 1}, {0, 100}, {64, 33}, {5, 32}}),
      PlannedStep({{9000, 1}}),
      PlannedStep({{70'000, 1}, {300, 1}, {2047, 1}, {2048, 7}, {1024, 1}, {5000, 3}}),
      PlannedStep({{100'000, 40}, {600'000, 1}, {3000, 200}}),
  };
  for (const PlannedStep& step : steps) {
    for (const HeadShape head : {HeadShape{8, 8, 64}, HeadShape{32, 8, 64}, HeadShape{14, 2, 64},
                                 HeadShape{40, 1, 64}, HeadShape{64, 2, 128}}) {
      ASSERT_LE(TokensPerUnit(head) * MaxHeadsPerUnit(head), kUnitRows);
      for (const int32_t window : {0, 50, 4096}) {
        for (const int32_t workers : {1, 2, 7, 64, 512}) {
          SCOPED_TRACE("window " + std::to_string(window) + ", workers " + std::to_string(workers));
          const Planned plan(step, head, window, workers);
          // Of every token: the key that comes next.
          std::vector<int32_t> next(step.positions.size());
          for (size_t i = 0; i < next.size(); ++i) {
            next[i] = window == 0 ? 0 : std::max(0, step.positions[i] - window + 1);
          }
          std::vector<AttendRun> in_order = plan.runs;
          std::sort(in_order.begin(), in_order.end(),
                    [](const AttendRun& a, const AttendRun& b) { return a.segment < b.segment; });
          for (const AttendRun& run : in_order) {
            ASSERT_LE(run.count, TokensPerUnit(head));
            ASSERT_GE(run.segments, 1);
            EXPECT_GE(run.token, step.row_begin[run.slot]);
            EXPECT_LE(run.token + run.count, step.row_begin[run.slot + 1]);
            const auto [begin, end] = KeysOf(run, window);
            for (int32_t i = run.token; i < run.token + run.count; ++i) {
              EXPECT_EQ(step.positions[i], run.position + i - run.token);
              if (end <= next[i]) continue;  // of a neighbour
              EXPECT_LE(begin, next[i]);
              next[i] = std::min(end, step.positions[i] + 1);
            }
          }
          for (size_t i = 0; i < next.size(); ++i) EXPECT_EQ(next[i], step.positions[i] + 1);
          int32_t before = INT32_MAX;
          for (const AttendRun& run : plan.runs) {
            const auto [begin, end] = KeysOf(run, window);
            EXPECT_LE(end - begin, before);
            before = end - begin;
          }
        }
      }
    }
  }
}

TEST(AttendPlan, SharesOfASplitRunHavePartialsOfTheirOwn) {
  const PlannedStep step({{70'000, 1}, {300, 1}, {9000, 7}, {600'000, 1}, {5000, 3}});
  for (const int32_t window : {0, 3000}) {
    const Planned plan(step, {8, 1, 64}, window, 64);
    std::vector<int> computed(kMaxPartials, 0), merged(kMaxPartials, 0);
    const auto count = [](const std::vector<AttendRun>& runs, std::vector<int>& of) {
      for (const AttendRun& run : runs) {
        if (run.partial < 0) continue;
        ASSERT_LE(run.partial + run.segments * run.count, kMaxPartials);
        for (int32_t i = 0; i < run.segments * run.count; ++i) ++of[run.partial + i];
      }
    };
    count(plan.runs, computed);
    count(plan.split_runs, merged);
    EXPECT_EQ(computed, merged);
    EXPECT_LE(*std::max_element(merged.begin(), merged.end()), 1);
    EXPECT_GE(plan.split_runs.size(), 3u);
    for (const AttendRun& whole : plan.split_runs) {
      int32_t next = whole.segment;
      for (const AttendRun& run : plan.runs) {
        if (run.partial < 0 || run.token != whole.token) continue;
        EXPECT_EQ(run.partial, whole.partial + (run.segment - whole.segment) * whole.count);
        next += run.segments;
      }
      EXPECT_EQ(next, whole.segment + whole.segments);
    }
  }
}

TEST(AttendPlan, RunsAreSplitWhereWorkersWouldBeIdle) {
  struct Case {
    Rows rows;
    int32_t kv_heads, workers;
    size_t runs, split;
  };
  const auto even = [](size_t rows, int32_t context) { return Rows(rows, {context - 1, 1}); };
  const Case cases[] = {
      {even(1, 16'384), 8, 64, 16, 1},  // a segment each for 128 units
      {even(1, 16'384), 1, 2, 4, 1},
      {even(1, 16'384), 8, 2, 1, 0},  // heads enough
      {even(1, 16'384), 1, 1, 1, 0},  // nobody to share with
      {even(1, 1024), 1, 64, 1, 0},   // one segment
      {even(1, 2047), 1, 64, 1, 0},   // the second one is short
      {even(1, 2048), 1, 64, 2, 1},
      {even(64, 4096), 8, 64, 64, 0},                            // sequences enough
      {{{600'000, 1}}, 8, 64, 1, 0},                             // no room for the partials
      {{{131'071, 1}, {1000, 1}, {1000, 1}}, 8, 64, 2 + 16, 1},  // the long one alone
      {{{0, 2048}}, 8, 64, 64, 0},                               // a prompt
  };
  for (const Case& c : cases) {
    const HeadShape head = {c.kv_heads, c.kv_heads, 128};
    const Planned plan(PlannedStep(c.rows), head, 0, c.workers);
    EXPECT_EQ(plan.runs.size(), c.runs) << c.rows[0].first << " on " << c.workers;
    EXPECT_EQ(plan.split_runs.size(), c.split) << c.rows[0].first << " on " << c.workers;
  }
}

TEST(AttendPlan, HeadsAreCutWhereThereWouldBeFewerUnitsThanWorkers) {
  for (const HeadShape head : {HeadShape{8, 8, 64}, HeadShape{32, 8, 64}, HeadShape{14, 2, 64},
                               HeadShape{40, 1, 64}, HeadShape{64, 2, 128}}) {
    const int32_t group = head.heads / head.kv_heads;
    for (const int64_t runs : {1, 2, 6, 100}) {
      const int64_t groups = runs * head.kv_heads;
      for (const int32_t workers : {1, 2, 7, 64, 512}) {
        const int32_t heads = ChooseHeadsPerUnit(head, runs, workers);
        const int64_t units = AttendUnitCount(head, runs, heads);
        EXPECT_LE(heads, MaxHeadsPerUnit(head));
        EXPECT_EQ(units % groups, 0);
        EXPECT_GE(units / groups * heads, group);
        EXPECT_LT((units / groups - 1) * heads, group);
        // No worker is idle that could take half of another's heads.
        EXPECT_TRUE(heads == 1 || 2 * units > workers) << workers;
        EXPECT_TRUE(heads == MaxHeadsPerUnit(head) || units <= workers) << "cut for nobody";
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
  constexpr int32_t kTokens = 220;  // two blocks of keys, one segment
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

TEST(CpuAttend, BitsDoNotDependOnWhoComputesASegment) {
  constexpr int32_t kTokens = 2300;  // three segments
  for (const HeadShape head : {HeadShape{4, 1, 32}, HeadShape{4, 2, 16}}) {
    for (const int32_t window : {0, 2100}) {
      const std::vector<uint16_t> whole =
          RunSequence("avx2", 1, head, 64, window, kTokens, kTokens);
      for (const KernelTable* table : Tables()) {
        for (const auto& [chunk, threads] :
             {std::pair{1, 16}, {3, 2}, {8, 16}, {700, 16}, {kTokens, 2}}) {
          EXPECT_EQ(RunSequence(table->isa, threads, head, 64, window, kTokens, chunk), whole)
              << table->isa << ", chunks of " << chunk << ", window " << window;
        }
      }
    }
  }
}

}  // namespace
}  // namespace baram::cpu
