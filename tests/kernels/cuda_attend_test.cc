// Attend's kernels on the emulation, from the pages to the output: every kernel and head size they
// are compiled for, split and whole, in all thread orders, against a plain loop. The op cases go
// through the device; here are shapes that need several blocks of keys and several shares in each
// kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/launchers.h"
#include "tests/kernels/cuda_plans.h"

namespace baram::cuda {
namespace {

struct Chunk {
  int32_t context;
  int32_t count;
};

struct AttendTestCase {
  std::string name;
  AttendKernel kernel;  // used by at least one row
  HeadShape head;
  int32_t page_tokens;
  std::vector<Chunk> chunks;
  int32_t window;
  int32_t gap;  // elements between rows of q and of out
  bool cuts;    // whether a sequence is cut
  int32_t multiprocessors = 4;
  int32_t least_parts = 0;  // of at least one token
};

void PrintTo(const AttendTestCase& c, std::ostream* os) { *os << c.name; }

constexpr uint8_t kNaNByte = 0xFF;

AttendDevice DeviceOf(const AttendTestCase& c) {
  return {.multiprocessors = c.multiprocessors, .shared_bytes_per_block = 227 << 10};
}

struct FreeHost {
  void operator()(void* memory) const { std::free(memory); }
};

// Exact in size, aligned as GPU memory is, full of NaN.
template <typename T>
class Memory {
 public:
  explicit Memory(int64_t count) : count_(count) {
    void* memory = nullptr;
    const size_t bytes = count * sizeof(T);
    EXPECT_EQ(posix_memalign(&memory, 256, std::max<size_t>(bytes, 1)), 0);
    std::memset(memory, kNaNByte, bytes);
    memory_.reset(memory);
  }
  T* data() const { return static_cast<T*>(memory_.get()); }
  int64_t size() const { return count_; }
  std::vector<T> values() const { return {data(), data() + count_}; }

 private:
  int64_t count_;
  std::unique_ptr<void, FreeHost> memory_;
};

// A case laid out in memory. Page 0 belongs to no sequence: window cases name it before their first
// key.
class Layout {
 public:
  explicit Layout(const AttendTestCase& c)
      : case_(c),
        columns_(c.head.heads * c.head.head_dim),
        stride_(columns_ + c.gap),
        pages_(CountPages(c)),
        pool_({c.head, 1, c.page_tokens}, pages_),
        q_(0),
        out_(0),
        scratch_(AttendPartialBytes(c.head, KvRowElements(c.head.head_dim), DeviceOf(c))) {
    int32_t page = pages_ - 1;
    for (const Chunk& chunk : c.chunks) {
      const int32_t first = c.window > 0 ? std::max(0, chunk.context - c.window + 1) : 0;
      std::vector<int32_t> table(MostPages(c), -1);
      for (int32_t i = 0; i * c.page_tokens < chunk.context + chunk.count; ++i, --page) {
        table[i] = (i + 1) * c.page_tokens <= first ? 0 : page;
      }
      tables_.insert(tables_.end(), table.begin(), table.end());
      rows_.push_back({.slot = static_cast<int32_t>(rows_.size()),
                       .begin = tokens_,
                       .count = chunk.count,
                       .position = chunk.context,
                       .source = 0});
      tokens_ += chunk.count;
    }
    // The last row ends without a gap: nothing may be read or written after it.
    q_ = Memory<uint16_t>(tokens_ * stride_ - c.gap);
    out_ = Memory<uint16_t>(q_.size());
    for (int32_t t = 0; t < tokens_; ++t) {
      for (int32_t i = 0; i < columns_; ++i) q_.data()[t * stride_ + i] = Random();
    }
    step_.tokens = tokens_;
    step_.rows = static_cast<int32_t>(rows_.size());
    step_.page_tables[0] = tables_.data();
    step_.max_pages_per_slot = MostPages(c);
    WriteCache();
  }

  // The outputs' bits.
  std::vector<uint16_t> Run(UploadedPlans* uploaded) {
    std::memset(out_.data(), kNaNByte, out_.size() * sizeof(uint16_t));
    std::memset(scratch_.data(), kNaNByte, scratch_.size());
    AttendArgs args;
    args.step = step_;
    args.pool = pool_.view;
    args.q = {q_.data(), DType::kBF16, tokens_, columns_, stride_};
    args.out = {out_.data(), DType::kBF16, tokens_, columns_, stride_};
    args.window = case_.window;
    args.scale = Scale();
    args.scratch = scratch_.data();
    uploaded->BeginStep(rows_);
    const StepAttendPlans::Planned& planned =
        uploaded->plans.For({case_.head, case_.window}, /*captured=*/false);
    EXPECT_TRUE(planned.plan.Uses(case_.kernel));
    int32_t most_parts = 0;
    for (const AttendPiece& piece : planned.plan.pieces) {
      most_parts = std::max(most_parts, piece.parts);
    }
    EXPECT_EQ(most_parts > 1, case_.cuts);
    EXPECT_GE(most_parts, case_.least_parts);
    for (AttendKernel kernel :
         {AttendKernel::kVector, AttendKernel::kNarrow, AttendKernel::kWide}) {
      if (!planned.plan.Uses(kernel)) continue;
      const AttendTiling tiling = TilingOf(kernel, case_.head, DeviceOf(case_));
      if (kernel == AttendKernel::kVector) {
        LaunchAttendVector(args, planned.arrays, tiling, planned.plan.vector_rows, arrived_.data(),
                           {nullptr});
      } else {
        LaunchAttendTiles(args, planned.arrays, tiling, kernel, arrived_.data(), {nullptr});
      }
      // As the next kernel needs them.
      EXPECT_EQ(arrived_, std::vector<uint32_t>(arrived_.size()));
    }
    return out_.values();
  }

  void ExpectNearPlainLoop(const std::vector<uint16_t>& out) const {
    const int32_t hd = case_.head.head_dim;
    for (const StepRow& row : rows_) {
      for (int32_t i = 0; i < row.count * case_.head.heads; ++i) {
        const int32_t token = row.begin + i / case_.head.heads;
        const int32_t head = i % case_.head.heads;
        const std::vector<double> weights = Weights(row, token, head);
        const int32_t last = row.position + token - row.begin;
        const int32_t first = last + 1 - static_cast<int32_t>(weights.size());
        for (int32_t e = 0; e < hd; ++e) {
          double want = 0;
          double magnitude = 0;
          for (int32_t p = first; p <= last; ++p) {
            const double term = weights[p - first] * Cached(row.slot, p, head, 1, e);
            want += term;
            magnitude += std::fabs(term);
          }
          const double got = F32FromBF16(out[token * stride_ + head * hd + e]);
          // The result and the weights are rounded to bf16.
          const double tolerance = (std::fabs(want) + 2 * magnitude) * 0x1p-8 + 1e-6;
          ASSERT_LE(std::fabs(got - want), tolerance)
              << "token " << token << ", head " << head << ", element " << e << ": " << got
              << ", want " << want;
        }
      }
    }
  }

  // Sets the middle element of a token's cached values, and optionally keys, in this step to
  // `value`.
  void SetCached(size_t sequence, int32_t token, float value, bool keys) {
    const StepRow& row = rows_[sequence];
    for (int32_t i = 0; i < 2 * case_.head.kv_heads; ++i) {
      if (i % 2 == 0 && !keys) continue;
      Place(row.slot, row.position + token, i / 2, i % 2)[case_.head.head_dim / 2].bits =
          BF16FromF32(value);
    }
  }
  // The middle elements of the tokens that see `token` are not finite; the others are as in
  // `before`.
  void ExpectSeenFrom(size_t sequence, int32_t token, const std::vector<uint16_t>& before,
                      const std::vector<uint16_t>& now) const {
    for (size_t i = 0; i < now.size(); ++i) {
      const auto column = static_cast<int32_t>(i % stride_);
      const auto ahead = static_cast<int32_t>(i / stride_) - rows_[sequence].begin - token;
      const bool sees = ahead >= 0 && ahead + token < rows_[sequence].count &&
                        (case_.window == 0 || ahead < case_.window);
      if (!sees) {
        ASSERT_EQ(now[i], before[i]) << ahead << " tokens after";
      } else if (column < columns_ && column % case_.head.head_dim == case_.head.head_dim / 2) {
        ASSERT_FALSE(std::isfinite(F32FromBF16(now[i]))) << ahead << " tokens after";
      }
    }
  }

  void ExpectUntouchedGaps(const std::vector<uint16_t>& out) const {
    for (size_t i = 0; i < out.size(); ++i) {
      if (static_cast<int32_t>(i % stride_) < columns_) continue;
      ASSERT_EQ(out[i], 0xFFFF) << i;
    }
  }

 private:
  struct Pool {
    Pool(const KvShape& shape, int32_t pages) : memory(KvPageBytes(shape) * pages) {
      view = {memory.data(), shape, KvPageBytes(shape), pages};
    }
    Memory<std::byte> memory;
    KvPool view;
  };

  static int32_t PagesOf(const AttendTestCase& c, const Chunk& chunk) {
    return (chunk.context + chunk.count + c.page_tokens - 1) / c.page_tokens;
  }
  static int32_t CountPages(const AttendTestCase& c) {
    int32_t pages = 1;
    for (const Chunk& chunk : c.chunks) pages += PagesOf(c, chunk);
    return pages;
  }
  static int32_t MostPages(const AttendTestCase& c) {
    int32_t most = 0;
    for (const Chunk& chunk : c.chunks) most = std::max(most, PagesOf(c, chunk));
    return most;
  }

  uint16_t Random() { return BF16FromF32(normal_(random_)); }
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(case_.head.head_dim)); }

  Bf16* Place(int32_t slot, int32_t position, int32_t kv_head, int plane) const {
    const KvView kv = ViewKv(pool_.view, {0, 0}, step_);
    return kv.Plane(kv.Page(slot, position / case_.page_tokens), kv_head, plane) +
           position % case_.page_tokens * kv.row_elements;
  }
  double Cached(int32_t slot, int32_t position, int32_t head, int plane, int32_t element) const {
    const int32_t kv_head = head / (case_.head.heads / case_.head.kv_heads);
    return ToFloat(Place(slot, position, kv_head, plane)[element]);
  }

  // Writes every visible position, padding included; the rest stays NaN.
  void WriteCache() {
    for (const StepRow& row : rows_) {
      for (int32_t p = 0; p < row.position + row.count; ++p) {
        if (tables_[row.slot * step_.max_pages_per_slot + p / case_.page_tokens] == 0) continue;
        for (int32_t i = 0; i < 2 * case_.head.kv_heads; ++i) {
          Bf16* to = Place(row.slot, p, i / 2, i % 2);
          for (int32_t e = 0; e < KvRowElements(case_.head.head_dim); ++e) {
            to[e].bits = e < case_.head.head_dim ? Random() : 0;
          }
        }
      }
    }
  }

  // The softmax weights of the keys that a token sees, up to its own.
  std::vector<double> Weights(const StepRow& row, int32_t token, int32_t head) const {
    const int32_t hd = case_.head.head_dim;
    const int32_t last = row.position + token - row.begin;
    const int32_t first = case_.window > 0 ? std::max(0, last - case_.window + 1) : 0;
    std::vector<double> weights;
    for (int32_t p = first; p <= last; ++p) {
      double dot = 0;
      for (int32_t e = 0; e < hd; ++e) {
        const double q = F32FromBF16(q_.data()[token * stride_ + head * hd + e]);
        dot += q * Cached(row.slot, p, head, 0, e);
      }
      weights.push_back(dot * Scale());
    }
    const double largest = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    for (double& weight : weights) weight /= sum;
    return weights;
  }

  const AttendTestCase& case_;
  const int32_t columns_;
  const int32_t stride_;
  const int32_t pages_;
  Pool pool_;
  int32_t tokens_ = 0;
  std::vector<int32_t> tables_;
  std::vector<StepRow> rows_;
  Memory<uint16_t> q_;
  Memory<uint16_t> out_;
  Memory<std::byte> scratch_;
  // Exactly as many as a launch has blocks: the sanitizer sees an access to a counter beyond.
  std::vector<uint32_t> arrived_ = std::vector<uint32_t>(kMaxAttendBlocks);
  StepView step_;
  std::mt19937 random_{3};
  std::normal_distribution<float> normal_;
};

class CudaAttend : public testing::TestWithParam<AttendTestCase> {};

TEST_P(CudaAttend, IsCloseToAPlainLoopInEveryOrderOfThreads) {
  using emulation::LaneOrder;
  Layout layout(GetParam());
  SlotShape slots;
  slots.max_step_tokens = 256;
  UploadedPlans plans;
  ASSERT_EQ(plans.Reserve(slots, DeviceOf(GetParam()), nullptr), nullptr);
  emulation::SetLaneOrder(LaneOrder::kForward);
  const std::vector<uint16_t> out = layout.Run(&plans);
  ASSERT_NO_FATAL_FAILURE(layout.ExpectNearPlainLoop(out));
  ASSERT_NO_FATAL_FAILURE(layout.ExpectUntouchedGaps(out));
  for (LaneOrder order : {LaneOrder::kBackward, LaneOrder::kShuffled}) {
    emulation::SetLaneOrder(order);
    ASSERT_EQ(layout.Run(&plans), out);
  }
  EXPECT_EQ(plans.block.error(), nullptr);
}

constexpr AttendKernel kVector = AttendKernel::kVector;
constexpr AttendKernel kNarrow = AttendKernel::kNarrow;
constexpr AttendKernel kWide = AttendKernel::kWide;

const AttendTestCase kCases[] = {
    {"vector_24", kVector, {4, 2, 24}, 32, {{70, 1}, {64, 1}}, 7, 5, false},
    {"vector_64", kVector, {4, 2, 64}, 32, {{700, 1}, {13, 2}}, 0, 5, true},
    {"vector_80", kVector, {1, 1, 80}, 16, {{100, 2}}, 0, 8, false},
    {"vector_128", kVector, {2, 1, 128}, 32, {{300, 1}, {0, 1}}, 0, 8, true},
    {"vector_256", kVector, {2, 1, 256}, 64, {{200, 1}}, 33, 8, false},
    {"narrow_64", kNarrow, {16, 2, 64}, 32, {{700, 1}, {5, 2}}, 0, 8, true},
    {"narrow_80", kNarrow, {8, 2, 80}, 16, {{330, 1}, {37, 3}}, 0, 5, true},
    {"narrow_128", kNarrow, {7, 1, 128}, 128, {{200, 2}}, 50, 5, false},
    {"narrow_256", kNarrow, {8, 1, 256}, 32, {{90, 1}}, 0, 8, false},
    {"wide_64", kWide, {4, 2, 64}, 32, {{0, 70}, {420, 33}}, 0, 8, true},
    {"wide_80", kWide, {2, 2, 80}, 32, {{150, 40}}, 33, 5, false},
    {"wide_256", kWide, {8, 1, 256}, 32, {{20, 12}}, 0, 8, false},
    {"more_heads_than_a_tile", kWide, {71, 1, 24}, 32, {{40, 1}, {0, 3}}, 0, 5, false},
    {"mixed", kNarrow, {7, 1, 64}, 64, {{70, 1}, {0, 1}, {0, 40}, {33, 20}, {9, 2}}, 16, 5, false},
    // More parts than a merging warp reads at once: 8 of 256 elements, 16 of 128.
    {"many_parts_256", kVector, {1, 1, 256}, 64, {{4600, 1}}, 0, 8, true, 18, 18},
    {"many_parts_128", kVector, {1, 1, 128}, 64, {{4600, 1}}, 0, 8, true, 6, 18},
};
INSTANTIATE_TEST_SUITE_P(Cases, CudaAttend, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// 0 times a non-finite value is NaN: a weight of 0 does not hide it.
void ExpectThatOthersAreAsBefore(const AttendTestCase& c) {
  SlotShape slots;
  slots.max_step_tokens = 256;
  UploadedPlans plans;
  ASSERT_EQ(plans.Reserve(slots, DeviceOf(c), nullptr), nullptr);
  const std::vector<uint16_t> before = Layout(c).Run(&plans);
  for (size_t sequence = 0; sequence < c.chunks.size(); ++sequence) {
    for (const bool keys : {false, true}) {
      for (const float value : {NAN, INFINITY}) {
        SCOPED_TRACE(testing::Message() << sequence << ", keys " << keys << ", " << value);
        Layout layout(c);
        const int32_t token = c.chunks[sequence].count / 2;
        layout.SetCached(sequence, token, value, keys);
        ASSERT_NO_FATAL_FAILURE(layout.ExpectSeenFrom(sequence, token, before, layout.Run(&plans)));
      }
    }
  }
}

TEST(CudaAttendNotFinite, ReachesOnlyTokensThatSeeIt) {
  emulation::SetLaneOrder(emulation::LaneOrder::kForward);
  int kernels = 0;
  for (const AttendTestCase& c : kCases) {
    // With several tokens, some do not see it.
    const auto several = [](const Chunk& chunk) { return chunk.count > 1; };
    if (std::none_of(c.chunks.begin(), c.chunks.end(), several)) continue;
    SCOPED_TRACE(c.name);
    ASSERT_NO_FATAL_FAILURE(ExpectThatOthersAreAsBefore(c));
    kernels |= 1 << static_cast<int>(c.kernel);
  }
  EXPECT_EQ(kernels, 0b111);
}

}  // namespace
}  // namespace baram::cuda
