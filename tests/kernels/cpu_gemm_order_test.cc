// The summation order of the CPU's GEMM: one scalar model of it against every instruction set, bit
// for bit, with denormals, tails, strides, scales and biases.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_facts.h"
#include "kernels/cpu/gemm_select.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/float_types.h"
#include "kernels/rounding.h"
#include "tests/kernels/cpu_order.h"

namespace baram::cpu {
namespace {

struct Machine {
  const KernelTable* kernels;
  std::string name;
};

std::vector<Machine> Machines() {
  const Isa best = ReadCpuFacts().best_isa;
  std::vector<Machine> machines;
  if (best >= Isa::kAvx2) machines.push_back({&kAvx2Kernels, "avx2"});
  if (best >= Isa::kAvx512) machines.push_back({&kAvx512Kernels, "avx512"});
  if (best >= Isa::kAvx512Bf16) {
    machines.push_back({&kAvx512Bf16Kernels, "avx512_bf16"});
  }
  if (best >= Isa::kAmx) {
    machines.push_back({&kAmxKernels, "amx"});
  }
  return machines;
}

// How the operands are drawn.
enum class Values { kNormal, kTiny, kMixed };

struct Problem {
  int64_t rows, n, k;
  Values values = Values::kNormal;
  DType out = DType::kF32;
  bool bias = false;
  float scale = 1.0f;
  bool stream_out = false;
  int64_t out_stride = 0;  // 0: n
};

class Gemm {
 public:
  explicit Gemm(const Problem& problem) : problem_(problem), random_(12345) {
    a_stride_ = problem.k + 3;
    a_.assign(problem.rows * a_stride_, 0x7fc0);  // NaN between the rows: must not be read
    for (int64_t r = 0; r < problem.rows; ++r) {
      for (int64_t k = 0; k < problem.k; ++k) a_[r * a_stride_ + k] = Draw();
    }
    w_.resize(problem.n * problem.k);
    for (uint16_t& w : w_) w = Draw();
    const WeightShape shape = {problem.n, problem.k, {DType::kBF16}};
    packed_.assign(PackedWeightBytes(shape) / 2, 0);
    // In two parts that meet inside a panel, like those of a fused weight.
    const int64_t first = problem.n / 2;
    PackRows(shape, {w_.data(), DType::kBF16, first}, 0, packed_.data());
    PackRows(shape, {w_.data() + first * problem.k, DType::kBF16, problem.n - first}, first,
             packed_.data());
    bias_.resize(problem.n);
    for (float& b : bias_) b = F32FromBF16(Draw());
  }

  // The model's result, as stored: fp32 bits, or bf16 bits. Nothing is written between the rows.
  std::vector<uint32_t> Expected() const {
    std::vector<uint32_t> expected;
    for (int64_t r = 0; r < problem_.rows; ++r) {
      std::vector<float> a;
      for (int64_t k = 0; k < problem_.k; ++k) a.push_back(F32FromBF16(a_[r * a_stride_ + k]));
      for (int64_t n = 0; n < problem_.n; ++n) {
        std::vector<float> w;
        for (int64_t k = 0; k < problem_.k; ++k) w.push_back(F32FromBF16(w_[n * problem_.k + k]));
        float value = Flush(AddProducts(a, w, 0) * problem_.scale);
        if (problem_.bias) value = Flush(value + Flush(bias_[n]));
        expected.push_back(problem_.out == DType::kF32 ? std::bit_cast<uint32_t>(value)
                                                       : BF16FromF32(value));
      }
      expected.insert(expected.end(), OutStride() - problem_.n, Untouched());
    }
    return expected;
  }

  // What a machine computes with `workers` workers, `panels` panels at a time, in blocks of
  // `block_k` columns.
  std::vector<uint32_t> Computed(const Machine& machine, int64_t block_k, int64_t panels,
                                 int32_t workers) const {
    WorkerPool pool({.workers = workers, .enter_thread = machine.kernels->enter_thread});
    const uint32_t mode = __builtin_ia32_stmxcsr();
    machine.kernels->enter_thread();
    const int64_t padded_k = RoundUp(problem_.k, kBlockK);
    std::vector<float> packed_a(RoundUp(problem_.rows, 16) * padded_k, NAN);
    constexpr int64_t kLineFloats = 16;
    std::vector<float> memory(problem_.rows * OutStride() + kLineFloats,
                              std::bit_cast<float>(kUntouched));
    const auto misfit = reinterpret_cast<uintptr_t>(memory.data()) / sizeof(float) % kLineFloats;
    float* out = memory.data() + (kLineFloats - misfit);  // aligned to a cache line
    GemmJob job;
    job.a = {const_cast<uint16_t*>(a_.data()), DType::kBF16, problem_.rows, problem_.k, a_stride_};
    job.weight = {packed_.data(), problem_.n, problem_.k, padded_k};
    job.bias = problem_.bias ? bias_.data() : nullptr;
    job.scale = problem_.scale;
    job.out = {out, problem_.out, problem_.rows, problem_.n, OutStride()};
    job.block_k = block_k;
    job.stream_out = problem_.stream_out;
    job.packed_a = packed_a.data();
    const auto run = [&](Kernel<GemmJob> kernel) {
      return [&job, kernel](int64_t begin, int64_t end, const Worker& worker) {
        kernel(job, begin, end, worker);
      };
    };
    pool.ParallelFor(RoundUp(problem_.rows, 16) / 16 * (RoundUp(padded_k, block_k) / block_k), 1,
                     run(machine.kernels->pack_a));
    pool.ParallelFor(RoundUp(problem_.n, 16) / 16, panels, run(machine.kernels->gemm));
    __builtin_ia32_ldmxcsr(mode);
    std::vector<uint32_t> computed;
    for (int64_t i = 0; i < problem_.rows * OutStride(); ++i) {
      computed.push_back(problem_.out == DType::kF32 ? std::bit_cast<uint32_t>(out[i])
                                                     : reinterpret_cast<const uint16_t*>(out)[i]);
    }
    return computed;
  }

 private:
  static constexpr uint32_t kUntouched = 0x7fc17fc1;  // a NaN, in fp32 and twice in bf16

  int64_t OutStride() const { return problem_.out_stride > 0 ? problem_.out_stride : problem_.n; }
  uint32_t Untouched() const {
    return problem_.out == DType::kF32 ? kUntouched : kUntouched & 0xffff;
  }
  uint16_t Draw() {
    std::normal_distribution<float> normal;
    const float x = normal(random_);
    switch (problem_.values) {
      case Values::kNormal:
        return BF16FromF32(x);
      // Products around 2^-126: results that are denormal, or round up to the smallest normal.
      case Values::kTiny:
        return BF16FromF32(std::ldexp(x, -63));
      case Values::kMixed: {
        const auto exponent = std::uniform_int_distribution<int>(-136, 40)(random_);
        return BF16FromF32(std::ldexp(x, exponent));  // a twentieth of the operands are denormal
      }
    }
    return 0;
  }

  Problem problem_;
  std::mt19937 random_;
  int64_t a_stride_;
  std::vector<uint16_t> a_, w_, packed_;
  std::vector<float> bias_;
};

size_t Differences(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
  size_t count = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) count += a[i] != b[i];
  return count;
}

void ExpectModelBits(const Problem& problem) {
  const Gemm gemm(problem);
  const std::vector<uint32_t> expected = gemm.Expected();
  for (const Machine& machine : Machines()) {
    for (const auto& [block_k, panels, workers] :
         {std::tuple<int64_t, int64_t, int32_t>{32, 1, 2}, {64, 2, 1}, {2048, 3, 3}}) {
      EXPECT_EQ(Differences(gemm.Computed(machine, block_k, panels, workers), expected), 0u)
          << machine.name << ", rows " << problem.rows << ", n " << problem.n << ", k " << problem.k
          << ", block_k " << block_k << ", panels " << panels;
    }
  }
}

TEST(CpuGemmOrder, NormalNumbers) { ExpectModelBits({.rows = 33, .n = 48, .k = 512}); }

// Partial sums are kept in memory between blocks of k, as fp32.
TEST(CpuGemmOrder, BlocksOfKChangeNothing) {
  // In the second, `a` is more than lanes leave in L2.
  for (const Problem& problem :
       {Problem{.rows = 50, .n = 72, .k = 1100}, {.rows = 250, .n = 40, .k = 2200}}) {
    const Gemm gemm(problem);
    const std::vector<uint32_t> expected = gemm.Expected();
    for (const Machine& machine : Machines()) {
      for (const int64_t block_k : {32, 96, 128, 256, 512, 1024, 2048}) {
        EXPECT_EQ(Differences(gemm.Computed(machine, block_k, 4, 2), expected), 0u)
            << machine.name << ", k " << problem.k << ", block_k " << block_k;
      }
    }
  }
}

TEST(CpuGemmOrder, DenormalProductsAndSums) {
  ExpectModelBits({.rows = 32, .n = 64, .k = 256, .values = Values::kTiny});
}

TEST(CpuGemmOrder, DenormalOperands) {
  ExpectModelBits({.rows = 32, .n = 64, .k = 256, .values = Values::kMixed});
}

TEST(CpuGemmOrder, EveryTail) {
  for (const int64_t rows : {1, 2, 3, 5, 6, 7, 12, 13, 15, 16, 17, 24, 31, 36, 49}) {
    ExpectModelBits({.rows = rows, .n = 37, .k = 97});
  }
  for (const int64_t k : {1, 2, 31, 32, 33, 64, 95}) {
    ExpectModelBits({.rows = 4, .n = 17, .k = k});
  }
}

TEST(CpuGemmOrder, ScaleBiasAndRounding) {
  ExpectModelBits({.rows = 5, .n = 33, .k = 64, .bias = true, .scale = 0.3f});
  ExpectModelBits({.rows = 18, .n = 33, .k = 64, .out = DType::kBF16, .bias = true});
  ExpectModelBits({.rows = 18, .n = 33, .k = 64, .values = Values::kTiny, .out = DType::kBF16});
}

// Cache lines that consist entirely of results bypass the caches, others do not.
TEST(CpuGemmOrder, StreamedResults) {
  const Problem problem = {.rows = 37, .n = 96, .k = 160, .out = DType::kBF16, .stream_out = true};
  ExpectModelBits(problem);
  for (const int64_t n : {100, 112, 120, 127}) {
    Problem wider = problem;
    wider.n = n;
    wider.out_stride = 128;
    ExpectModelBits(wider);
  }
  Problem crooked = problem;  // rows that are not whole lines
  crooked.n = 100;
  ExpectModelBits(crooked);
  Problem floats = problem;
  floats.out = DType::kF32;
  ExpectModelBits(floats);
}

TEST(CpuGemmOrder, StaysInItsScratch) {
  const int64_t k = 1088, rows = 512;
  for (const Machine& machine : Machines()) {
    for (const int64_t panels : {15, 16}) {
      const int64_t n = panels * kPanelColumns;
      const int64_t used = SumBytes(machine.kernels->gemm_form.tiles, rows, panels);
      std::vector<uint16_t> a(rows * k), weights(n * k);
      std::vector<float> packed_a(rows * k), out(rows * n);
      auto* scratch = static_cast<uint8_t*>(std::aligned_alloc(4096, kWorkerScratchBytes));
      std::memset(scratch, 0xa5, kWorkerScratchBytes);
      GemmJob job;
      job.a = DenseTensor(a.data(), DType::kBF16, rows, k);
      job.weight = {weights.data(), n, k, k};
      job.out = DenseTensor(out.data(), DType::kF32, rows, n);
      job.block_k = 512;
      job.packed_a = packed_a.data();
      const Worker worker = {0, scratch};
      const uint32_t mode = __builtin_ia32_stmxcsr();
      machine.kernels->enter_thread();
      machine.kernels->pack_a(job, 0, rows / 16 * CeilDivide(k, job.block_k), worker);
      machine.kernels->gemm(job, 0, panels, worker);
      __builtin_ia32_ldmxcsr(mode);
      EXPECT_EQ(std::count(scratch + used, scratch + kWorkerScratchBytes, uint8_t{0xa5}),
                kWorkerScratchBytes - used)
          << machine.name << ", panels " << panels;
      std::free(scratch);
    }
  }
}

// With fewer rows than a tile has, tiles of these alone are packed and read.
TEST(CpuGemmOrder, FewRowsArePackedAlone) {
  const int64_t k = 160, n = 48;
  for (const Machine& machine : Machines()) {
    if (!machine.kernels->gemm_form.tiles) continue;
    for (const int64_t rows : {1, 7, 15}) {
      std::vector<uint16_t> a(rows * k, BF16FromF32(1)), weights(n * k, BF16FromF32(2));
      const std::vector<uint16_t> untouched(16 * k - rows * k, 0x7fc0);
      std::vector<uint16_t> packed_a(16 * k, 0x7fc0);
      std::vector<float> out(rows * n);
      std::unique_ptr<void, decltype(&std::free)> scratch(
          std::aligned_alloc(4096, kWorkerScratchBytes), std::free);
      std::memset(scratch.get(), 0xa5, kWorkerScratchBytes);
      GemmJob job;
      job.a = DenseTensor(a.data(), DType::kBF16, rows, k);
      job.weight = {weights.data(), n, k, k};
      job.out = DenseTensor(out.data(), DType::kF32, rows, n);
      job.block_k = 64;
      job.packed_a = packed_a.data();
      const Worker worker = {0, scratch.get()};
      const uint32_t mode = __builtin_ia32_stmxcsr();
      machine.kernels->enter_thread();
      machine.kernels->pack_a(job, 0, CeilDivide(k, job.block_k), worker);
      machine.kernels->gemm(job, 0, n / kPanelColumns, worker);
      __builtin_ia32_ldmxcsr(mode);
      EXPECT_TRUE(std::equal(untouched.begin(), untouched.end(), packed_a.begin() + rows * k))
          << machine.name << ", rows " << rows;
      EXPECT_EQ(out, std::vector<float>(rows * n, 2 * k)) << machine.name << ", rows " << rows;
      // Sums have no more rows either: those of the first square follow a square of none.
      const auto* sums = static_cast<const uint8_t*>(scratch.get()) + 32 * 2 * kPanelColumns * 4;
      const int64_t written = rows * kPanelColumns * 4, tile = 16 * kPanelColumns * 4;
      EXPECT_EQ(std::count(sums + written, sums + tile, uint8_t{0xa5}), tile - written)
          << machine.name << ", rows " << rows;
    }
  }
}

// Sources of every type round to the nearest bf16, ties to even.
TEST(CpuPack, ConvertsAndPlaces) {
  const int64_t n = 35, k = 7;
  std::vector<float> source(n * k);
  for (size_t i = 0; i < source.size(); ++i) source[i] = 1.0f + static_cast<float>(i) / 512;
  std::vector<uint16_t> halves;
  for (const float x : source) halves.push_back(F16FromF32(x));
  const WeightShape shape = {n, k, {DType::kBF16}};
  ASSERT_EQ(PackedWeightBytes(shape), 48 * 32 * 2);
  for (const bool f16 : {false, true}) {
    std::vector<uint16_t> packed(48 * 32, 0);
    const HostRows rows =
        f16 ? HostRows{halves.data(), DType::kF16, n} : HostRows{source.data(), DType::kF32, n};
    PackRows(shape, rows, 0, packed.data());
    for (int64_t row = 0; row < 48; ++row) {
      for (int64_t column = 0; column < 32; ++column) {
        const bool inside = row < n && column < k;
        const uint16_t expected = inside ? BF16FromF32(source[row * k + column]) : 0;
        EXPECT_EQ(packed[row / 16 * 512 + column / 2 * 32 + row % 16 * 2 + column % 2], expected)
            << row << ", " << column;
      }
    }
  }
}

constexpr GemmForm kFma = {.tiles = false, .element_bytes = 4};
constexpr GemmForm kDots = {.tiles = false, .element_bytes = 2};
constexpr GemmForm kAmx = {.tiles = true, .element_bytes = 2};

TEST(GemmSelect, CutsForTheCaches) {
  EXPECT_EQ(ToString(SelectGemm(1, 8192, 2048, kAmx, 2)), "1 x 2048, 8 panels");
  EXPECT_EQ(ToString(SelectGemm(32, 8192, 2048, kAmx, 2)), "32 x 128, 8 panels");
  EXPECT_EQ(ToString(SelectGemm(64, 8192, 2048, kAmx, 2)), "64 x 128, 16 panels");
  EXPECT_EQ(ToString(SelectGemm(97, 8192, 2048, kAmx, 2)), "97 x 256, 16 panels, streamed");
  EXPECT_EQ(ToString(SelectGemm(256, 2048, 8192, kAmx, 2)), "256 x 256, 16 panels");
  EXPECT_EQ(ToString(SelectGemm(512, 8192, 2048, kAmx, 2)), "512 x 256, 16 panels, streamed");
  EXPECT_EQ(ToString(SelectGemm(512, 512, 2048, kAmx, 2)), "512 x 256, 8 panels");
  EXPECT_EQ(ToString(SelectGemm(600, 8192, 2048, kAmx, 2)), "320 x 256, 16 panels, streamed");
  EXPECT_EQ(ToString(SelectGemm(600, 8192, 64, kAmx, 2)), "320 x 64, 16 panels, streamed");
  EXPECT_EQ(ToString(SelectGemm(512, 8192, 2048, kFma, 2)), "128 x 2048, 16 panels");
}

// When the last of `workers` workers of the same speed ends, in panels: each takes the next task.
int64_t LastEnd(int64_t panels, int64_t panels_per_task, int32_t workers) {
  std::vector<int64_t> ends(workers);
  for (int64_t panel = 0; panel < panels; panel += panels_per_task) {
    *std::ranges::min_element(ends) += std::min(panels_per_task, RoundUp(panels - panel, 2));
  }
  return *std::ranges::max_element(ends);
}

struct Product {
  int64_t n, k;
};
// The layers and the logits of Llama 3.2 1B, Llama 3.1 8B and EXAONE 4.0 32B.
constexpr Product kProducts[] = {
    {3072, 2048}, {2048, 2048}, {16'384, 2048}, {2048, 8192},   {128'256, 2048},
    {6144, 4096}, {4096, 4096}, {28'672, 4096}, {4096, 14'336}, {128'256, 4096},
    {7168, 5120}, {5120, 5120}, {54'784, 5120}, {5120, 27'392}, {102'400, 5120},
};

// How much later the last worker ends than with a perfectly even split, for all numbers of workers.
// Tiles are at least pairs of panels, so with few panels per worker no choice is even: 128 pairs
// take 127 workers two rounds.
TEST(GemmSelect, WorkersEndTogether) {
  struct Kind {
    int64_t rows;
    GemmForm form;
    double above_pairs;  // above what tasks of one pair would take
    double above_even;   // above panels / workers, from 32 panels a worker on
  };
  // With many rows small tasks cost more than they even out.
  for (const Kind& kind :
       {Kind{1, kAmx, 1.03, 1.06}, Kind{64, kAmx, 1.03, 1.06}, Kind{512, kAmx, 1.12, 1.17},
        Kind{1, kFma, 1.03, 1.06}, Kind{128, kDots, 1.03, 1.06}}) {
    double worst_pairs = 0, worst_even = 0;
    for (const Product& product : kProducts) {
      const int64_t panels = CeilDivide(product.n, kPanelColumns);
      for (int32_t workers = 1; workers <= 128; ++workers) {
        const GemmPlan plan = SelectGemm(kind.rows, product.n, product.k, kind.form, workers);
        EXPECT_EQ(plan.panels_per_task % 2, 0);
        const auto end = static_cast<double>(LastEnd(panels, plan.panels_per_task, workers));
        const auto pairs = static_cast<double>(2 * CeilDivide(CeilDivide(panels, 2), workers));
        worst_pairs = std::max(worst_pairs, end / pairs);
        if (panels >= 32 * workers) {
          worst_even = std::max(worst_even, end * workers / static_cast<double>(panels));
        }
      }
    }
    EXPECT_LE(worst_pairs, kind.above_pairs) << kind.rows << " rows";
    EXPECT_LE(worst_even, kind.above_even) << kind.rows << " rows";
  }
}

// Where tasks divide among the workers their size is as measured.
TEST(GemmSelect, MeasuredTilesStayWhereTheyDivide) {
  EXPECT_EQ(SelectGemm(512, 28'672, 4096, kAmx, 64).panels_per_task, 14);
  EXPECT_EQ(SelectGemm(512, 28'672, 4096, kAmx, 60).panels_per_task, 10) << "128 of 14 do not";
  EXPECT_EQ(SelectGemm(1, 4096, 4096, kAmx, 64).panels_per_task, 2);
  EXPECT_EQ(SelectGemm(64, 28'672, 4096, kAmx, 64).panels_per_task, 4) << "299 of 6 do not";
  EXPECT_EQ(SelectGemm(64, 4096, 4096, kAmx, 60).panels_per_task, 2) << "6 are as late";
  EXPECT_EQ(SelectGemm(512, 4096, 4096, kAmx, 60).panels_per_task, 6) << "tasks of 2 are slow";
}

// For every shape, a worker's scratch and the shared one suffice.
TEST(GemmSelect, FitsItsMemory) {
  for (const int64_t rows : {1, 3, 4, 17, 32, 33, 512, 513, 8192}) {
    for (const int64_t k : {int64_t{32}, int64_t{64}, int64_t{2048}, int64_t{8192}, kMaxGemmK}) {
      for (const GemmForm& form : {kFma, kDots, kAmx}) {
        const GemmPlan plan = SelectGemm(rows, 128 * 1024, k, form, 2);
        EXPECT_GE(plan.chunk_rows, 1);
        EXPECT_LE(RoundUp(plan.chunk_rows, 16) * k * form.element_bytes, kGemmScratchBytes);
        EXPECT_LE(SumBytes(form.tiles, plan.chunk_rows, plan.panels_per_task), kWorkerScratchBytes);
        EXPECT_EQ(plan.block_k % 32, 0);
        EXPECT_GE(plan.block_k, 32);
        EXPECT_GE(plan.panels_per_task, 1);
      }
    }
  }
}

}  // namespace
}  // namespace baram::cpu
