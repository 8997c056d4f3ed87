// The summation order of the CPU's attention: one scalar model of what kernels/cpu/attend.inc
// specifies against every instruction set, bit for bit.
//
// An output is rounded to bf16, which hides the last bits of fp32 from nearly all of them. So most
// operands are drawn in pairs that cancel: what remains is the rounding error, which another order
// would change.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_facts.h"
#include "kernels/device.h"
#include "kernels/float_types.h"
#include "tests/kernels/cpu_order.h"

namespace baram::cpu {
namespace {

constexpr int32_t kPageTokens = 32;

enum class Scores {
  kNormal,      // standard deviation about one
  kSpread,      // about eight: weights below the last bit of their sum
  kCancelling,  // only the rounding errors of q . k, scaled up
  kTiny,        // products of q and k around 2^-126, scaled up; and equally tiny values
  kBorders,     // weights that the last bit of the exponential rounds up or down, one per value
  kLowest,      // -infinity in the first two segments
};

struct Sequence {
  int32_t context, count;  // `count` tokens attend, after `context` earlier ones
};

struct Problem {
  HeadShape head;
  std::vector<Sequence> sequences;
  int32_t window = 0;
  Scores scores = Scores::kNormal;
  // A token of every sequence whose values, or keys, all are `odd_value`; -1: none.
  int32_t odd_token = -1;
  float odd_value = 0;
  bool odd_key = false;

  float Scale() const {
    switch (scores) {
      case Scores::kNormal:
      case Scores::kLowest:
        return 1.0f / std::sqrt(static_cast<float>(head.head_dim));
      case Scores::kSpread:
        return 6.0f / std::sqrt(static_cast<float>(head.head_dim));
      case Scores::kCancelling:
        return 0x1p14f;
      case Scores::kTiny:
        return 0x1p122f;
      case Scores::kBorders:
        return 1.0f;
    }
    return 0;
  }
};

// Scores below 0, at a scale of 1, whose weights lie on the border between two bf16 neighbours, or
// one bit before it.
const std::vector<float>& BorderScores() {
  static const std::vector<float> found = [] {
    std::vector<float> scores;
    for (float score = -0.01f; score > -80.0f; score *= 1.0f + 0x1p-18f) {
      const uint32_t weight = std::bit_cast<uint32_t>(PowerOfTwo(score * kLog2E)) & 0xffffu;
      if (weight == 0x8000u || weight == 0x7fffu) scores.push_back(score);
    }
    return scores;
  }();
  return found;
}

// The operands of a problem. Every element is a function of its position.
class Operands {
 public:
  explicit Operands(const Problem& problem) : problem_(problem) {}

  // Elements i and i ^ 6, both in one chain, are equal.
  float Query(int32_t sequence, int32_t token, int32_t head, int32_t i) const {
    if (problem_.scores == Scores::kBorders) return 1.0f;
    if (problem_.scores == Scores::kLowest) return 2.0f;
    return Rounded(Draw({1, sequence, token, head, Lower(i)}, Exponents()));
  }
  // Elements i and i ^ 6 cancel, if scores should; an element without a partner is zero. Keys 6, 32
  // and 38 apart are equal, and so are their weights.
  float Key(int32_t sequence, int32_t token, int32_t head, int32_t i) const {
    if (problem_.odd_key && token == problem_.odd_token) return problem_.odd_value;
    if (problem_.scores == Scores::kBorders) return BorderKey(token, i);
    if (problem_.scores == Scores::kLowest && token < 2048) return -0x1p127f;
    const float key = Rounded(Draw({2, sequence, Lower(token & ~32), head, Lower(i)}, Exponents()));
    if (problem_.scores != Scores::kCancelling) return key;
    if ((i ^ 6) >= problem_.head.head_dim) return 0.0f;
    return (i & 4) == 0 ? key : -key;
  }
  float Value(int32_t sequence, int32_t token, int32_t head, int32_t i) const {
    if (!problem_.odd_key && token == problem_.odd_token) return problem_.odd_value;
    if (problem_.scores == Scores::kBorders) return i == token ? 1.0f : 0.0f;
    const Spread spread = problem_.scores == Scores::kTiny ? Spread{-126, -125} : Spread{-5, 5};
    const auto draw = [&](int32_t key) {
      return Rounded(Draw({3, sequence, key, head, i}, spread));
    };
    switch (i % 4) {
      case 0:
        return draw(token);
      case 1:  // cancels within a piece, in one chain
        return (token & 4) == 0 ? draw(Lower(token)) : -draw(Lower(token));
      case 2:  // between pieces
        return (token & 32) == 0 ? draw(token) : -draw(token ^ 38);
      default: {  // the mean lies between two bf16 neighbours: the sum of weights decides
        const float lower = draw(0);
        const uint32_t step = (token & 4) == 0 ? 0 : 0x10000u;
        return std::bit_cast<float>(std::bit_cast<uint32_t>(lower) + step);
      }
    }
  }

 private:
  struct Spread {
    int low, high;  // of exponents
  };

  // The score as three numbers of 8 bits in one chain. The first key's is 0, the largest.
  float BorderKey(int32_t token, int32_t i) const {
    if (token == 0 || i % 2 != 0 || i > 4) return 0.0f;
    float rest = BorderScores()[token];
    float part = 0;
    for (int32_t k = 0; k <= i; k += 2) {
      part = std::bit_cast<float>(std::bit_cast<uint32_t>(rest) & 0xffff0000u);
      rest -= part;
    }
    return part;
  }

  static int32_t Lower(int32_t i) { return (i & 4) == 0 ? i : i ^ 6; }
  static float Rounded(float x) { return F32FromBF16(BF16FromF32(x)); }

  Spread Exponents() const {
    switch (problem_.scores) {
      case Scores::kNormal:
      case Scores::kSpread:
      case Scores::kBorders:
      case Scores::kLowest:
        return {0, 0};
      case Scores::kCancelling:
        return {-5, 5};  // so that every sum rounds
      case Scores::kTiny:
        return {-63, -63};
    }
    return {0, 0};
  }

  // Between -2 and 2, times a power of two.
  static float Draw(std::initializer_list<int32_t> place, Spread spread) {
    uint64_t bits = 0;
    for (const int32_t part : place) {  // the finalizer of splitmix64
      bits += 0x9E3779B97F4A7C15ull * static_cast<uint64_t>(part + 1);
      bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
      bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
      bits ^= bits >> 31;
    }
    const float x = static_cast<float>(bits >> 40) * 0x1p-22f - 2.0f;
    return std::ldexp(x, spread.low + static_cast<int>(bits % (spread.high - spread.low + 1)));
  }

  Problem problem_;
};

// The model's output for every token that attends, [tokens, heads * head_dim].
std::vector<uint16_t> Expected(const Problem& problem) {
  const Operands operands(problem);
  const HeadShape& head = problem.head;
  std::vector<uint16_t> expected;
  for (int32_t s = 0; s < std::ssize(problem.sequences); ++s) {
    const int32_t context = problem.sequences[s].context;
    const int32_t tokens = context + problem.sequences[s].count;
    std::vector<std::vector<std::vector<float>>> keys(head.kv_heads), values(head.kv_heads);
    for (int32_t h = 0; h < head.kv_heads; ++h) {
      for (int32_t token = 0; token < tokens; ++token) {
        keys[h].emplace_back();
        values[h].emplace_back();
        for (int32_t i = 0; i < head.head_dim; ++i) {
          keys[h].back().push_back(operands.Key(s, token, h, i));
          values[h].back().push_back(operands.Value(s, token, h, i));
        }
      }
    }
    for (int32_t token = context; token < tokens; ++token) {
      for (int32_t h = 0; h < head.heads; ++h) {
        std::vector<float> q;
        for (int32_t i = 0; i < head.head_dim; ++i) q.push_back(operands.Query(s, token, h, i));
        const int32_t kv_head = h / (head.heads / head.kv_heads);
        const std::vector<uint16_t> row =
            AttendRow(q, keys[kv_head], values[kv_head], token, problem.window, problem.Scale());
        expected.insert(expected.end(), row.begin(), row.end());
      }
    }
  }
  return expected;
}

// A device's answer to a problem, in one step. Usable once.
class Answer {
 public:
  Answer(Device& device, const Problem& problem) : device_(device), problem_(problem) {
    const KvShape shape = {problem.head, 1, kPageTokens};
    SlotShape slots = {
        .slots = static_cast<int32_t>(problem.sequences.size()), .groups = 1, .vocab_size = 1};
    for (const Sequence& sequence : problem.sequences) {
      const int32_t tokens = sequence.context + sequence.count;
      pages_.push_back((tokens + kPageTokens - 1) / kPageTokens);
      pool_.pages += pages_.back();
      slots.max_pages_per_slot = std::max(slots.max_pages_per_slot, pages_.back());
      slots.max_step_tokens += tokens;
    }
    pool_.shape = shape;
    pool_.page_bytes = device.KvBytesPerPage(shape);
    memory_ = device.Alloc(pool_.pages * pool_.page_bytes);
    pool_.data = memory_.data();
    std::memset(pool_.data, 0xff, pool_.pages * pool_.page_bytes);  // NaN
    scratch_ = device.Alloc(device.AttendScratchBytes(shape, slots));
    EXPECT_TRUE(device.ReserveSlots(slots));
  }

  std::vector<uint16_t> Compute() {
    const HeadShape& head = problem_.head;
    const int64_t columns = int64_t{head.heads + 2 * head.kv_heads} * head.head_dim;
    const StepView whole = Begin(true);
    std::vector<uint16_t> qkv = Rows(true);
    device_.StoreKv({.step = whole,
                     .pool = pool_,
                     .layer = {},
                     .qkv = DenseTensor(qkv.data(), DType::kBF16, whole.tokens, columns),
                     .rope = {}});
    const StepView step = Begin(false);
    qkv = Rows(false);
    const int64_t out_columns = int64_t{head.heads} * head.head_dim;
    std::vector<uint16_t> out(step.tokens * out_columns, 0x7fc0);
    device_.Attend({.step = step,
                    .pool = pool_,
                    .layer = {},
                    .q = {qkv.data(), DType::kBF16, step.tokens, out_columns, columns},
                    .window = problem_.window,
                    .scale = problem_.Scale(),
                    .out = DenseTensor(out.data(), DType::kBF16, step.tokens, out_columns),
                    .scratch = scratch_.data()});
    return out;
  }

 private:
  // A step of every sequence: of all its tokens, or of those that attend.
  StepView Begin(bool whole) {
    std::vector<SlotInit> inits;
    std::vector<PageDelta> deltas;
    std::vector<Row> rows;
    int32_t page = pool_.pages;  // neither in order nor from 0
    for (int32_t s = 0; s < std::ssize(problem_.sequences); ++s) {
      const Sequence& sequence = problem_.sequences[s];
      SlotInit& init = inits.emplace_back();
      init.slot = s;
      init.length = whole ? 0 : sequence.context;
      for (int32_t i = 0; i < pages_[s]; ++i) deltas.push_back({s, 0, i, --page});
      rows.push_back({.slot = s, .count = sequence.count + (whole ? sequence.context : 0)});
      tokens_.resize(tokens_.size() + rows.back().count);
    }
    return device_.BeginStep(
        {.inits = inits, .page_deltas = deltas, .rows = rows, .tokens = tokens_, .targets = {}});
  }

  // Queries, keys and values of the same tokens.
  std::vector<uint16_t> Rows(bool whole) const {
    const Operands operands(problem_);
    const HeadShape& head = problem_.head;
    std::vector<uint16_t> rows;
    const auto append = [&](int32_t heads, const auto& element) {
      for (int32_t h = 0; h < heads; ++h) {
        for (int32_t i = 0; i < head.head_dim; ++i) rows.push_back(BF16FromF32(element(h, i)));
      }
    };
    for (int32_t s = 0; s < std::ssize(problem_.sequences); ++s) {
      const Sequence& sequence = problem_.sequences[s];
      for (int32_t t = whole ? 0 : sequence.context; t < sequence.context + sequence.count; ++t) {
        append(head.heads, [&](int32_t h, int32_t i) { return operands.Query(s, t, h, i); });
        append(head.kv_heads, [&](int32_t h, int32_t i) { return operands.Key(s, t, h, i); });
        append(head.kv_heads, [&](int32_t h, int32_t i) { return operands.Value(s, t, h, i); });
      }
    }
    return rows;
  }

  Device& device_;
  Problem problem_;
  KvPool pool_;
  std::vector<int32_t> pages_;  // of all sequences
  std::vector<int32_t> tokens_;
  Buffer memory_, scratch_;
};

std::vector<std::string> InstructionSets() {
  std::vector<std::string> isas;
  const Isa best = ReadCpuFacts().best_isa;
  if (best >= Isa::kAvx2) isas.push_back("avx2");
  if (best >= Isa::kAvx512) isas.push_back("avx512");
  if (best >= Isa::kAvx512Bf16) isas.push_back("avx512_bf16");
  if (best >= Isa::kAmx) isas.push_back("amx");
  return isas;
}

using Threads = std::vector<int32_t>;

void ExpectModelBits(const Problem& problem, const Threads& threads = {2}) {
  const std::vector<uint16_t> expected = Expected(problem);
  for (const std::string& isa : InstructionSets()) {
    for (const int32_t count : threads) {
      std::string error;
      const auto device = OpenDevice("cpu", {.threads = count, .isa = isa}, &error);
      ASSERT_NE(device, nullptr) << error;
      const std::vector<uint16_t> computed = Answer(*device, problem).Compute();
      ASSERT_EQ(computed.size(), expected.size());
      size_t differences = 0;
      for (size_t i = 0; i < expected.size(); ++i) differences += computed[i] != expected[i];
      EXPECT_EQ(differences, 0u) << "of " << expected.size() << ": " << isa << ", threads " << count
                                 << ", heads " << problem.head.heads << " on "
                                 << problem.head.kv_heads << " of " << problem.head.head_dim
                                 << ", window " << problem.window << ", scores "
                                 << static_cast<int>(problem.scores);
    }
  }
}

void ExpectModelBitsOfAllScores(Problem problem, const Threads& threads = {2}) {
  for (const Scores scores : {Scores::kNormal, Scores::kSpread, Scores::kCancelling}) {
    problem.scores = scores;
    ExpectModelBits(problem, threads);
  }
}

// Lengths on both sides of pieces, blocks and cancelling pairs.
const std::vector<Sequence> kDecoding = {{0, 1},   {7, 1},   {31, 1},  {32, 1}, {63, 1},
                                         {127, 1}, {128, 1}, {191, 1}, {383, 1}};

TEST(CpuAttendOrder, Decoding) {
  for (const HeadShape head : {HeadShape{2, 2, 64}, {8, 2, 64}, {8, 1, 128}, {3, 1, 80}}) {
    ExpectModelBitsOfAllScores({.head = head, .sequences = kDecoding});
  }
}

TEST(CpuAttendOrder, DecodingWhereManyWorkersShareHeads) {
  for (const HeadShape head : {HeadShape{8, 2, 64}, {6, 2, 80}, {5, 1, 32}}) {
    ExpectModelBits({.head = head, .sequences = {{383, 1}, {130, 1}, {7, 1}}}, {16});
  }
}

TEST(CpuAttendOrder, Prompts) {
  for (const HeadShape head : {HeadShape{2, 2, 64}, {4, 1, 32}}) {
    ExpectModelBitsOfAllScores({.head = head, .sequences = {{0, 150}, {120, 20}, {230, 41}}});
  }
}

TEST(CpuAttendOrder, Windows) {
  for (const int32_t window : {5, 64, 200}) {
    ExpectModelBitsOfAllScores(
        {.head = {4, 2, 64}, .sequences = {{0, 40}, {250, 20}, {383, 1}}, .window = window});
  }
}

// The smallest and the largest head, and more heads than a unit has rows.
TEST(CpuAttendOrder, HeadSizes) {
  for (const HeadShape head : {HeadShape{1, 1, 2}, {2, 1, 18}, {2, 1, 256}, {35, 1, 16}}) {
    ExpectModelBitsOfAllScores({.head = head, .sequences = {{0, 9}, {191, 1}, {255, 1}}});
  }
}

// Tests every bit of the exponential and of its rounding.
TEST(CpuAttendOrder, WeightsOnTheBorder) {
  ASSERT_GE(BorderScores().size(), 64u);
  ExpectModelBits({.head = {1, 1, 64}, .sequences = {{63, 1}}, .scores = Scores::kBorders});
}

// 0 times a non-finite value is NaN: a weight of 0 does not hide it.
TEST(CpuAttendOrder, AValueThatIsNotFiniteReachesNoEarlierToken) {
  for (const HeadShape head : {HeadShape{3, 1, 64}, {2, 2, 20}}) {
    for (const float value : {NAN, INFINITY}) {
      for (const int32_t odd : {1, 33, 69}) {
        const Problem problem{
            .head = head, .sequences = {{0, 70}}, .odd_token = odd, .odd_value = value};
        const std::vector<uint16_t> expected = Expected(problem);
        const auto before = int64_t{odd} * head.heads * head.head_dim;
        for (const std::string& isa : InstructionSets()) {
          SCOPED_TRACE(isa + ", odd token " + std::to_string(odd));
          std::string error;
          const auto device = OpenDevice("cpu", {.threads = 2, .isa = isa}, &error);
          ASSERT_NE(device, nullptr) << error;
          const std::vector<uint16_t> computed = Answer(*device, problem).Compute();
          ASSERT_EQ(computed.size(), expected.size());
          EXPECT_TRUE(std::equal(computed.begin(), computed.begin() + before, expected.begin()));
          EXPECT_TRUE(std::all_of(computed.begin() + before, computed.end(), [](uint16_t x) {
            return !std::isfinite(F32FromBF16(x));
          })) << "it is seen from there on";
        }
      }
    }
  }
}

// One worker folds what several leave to the merge.
const Threads kFewAndMany = {1, 2, 16};

TEST(CpuAttendOrder, SegmentsOfOneSequence) {
  for (const int32_t context : {1022, 1023, 1024, 2299}) {
    ExpectModelBitsOfAllScores({.head = {2, 1, 32}, .sequences = {{context, 1}}}, kFewAndMany);
  }
  ExpectModelBitsOfAllScores({.head = {8, 2, 80}, .sequences = {{2299, 1}}}, {1, 16});
}

TEST(CpuAttendOrder, SegmentsOfSeveralSequences) {
  ExpectModelBitsOfAllScores(
      {.head = {3, 1, 64}, .sequences = {{3100, 1}, {1023, 1}, {40, 1}, {2047, 1}}}, kFewAndMany);
}

// Some rows of a unit see a segment that others do not.
TEST(CpuAttendOrder, SegmentsThatBeginWithinAChunk) {
  ExpectModelBitsOfAllScores({.head = {2, 1, 32}, .sequences = {{1010, 30}, {2040, 20}}},
                             kFewAndMany);
}

TEST(CpuAttendOrder, SegmentsThatAWindowCuts) {
  for (const int32_t window : {100, 1024, 2060}) {
    ExpectModelBitsOfAllScores(
        {.head = {2, 1, 32}, .sequences = {{1100, 30}, {3080, 20}, {4095, 1}}, .window = window},
        kFewAndMany);
  }
}

TEST(CpuAttendOrder, SegmentsWithoutAScoreAreNothing) {
  ExpectModelBits({.head = {2, 1, 64}, .sequences = {{2299, 1}}, .scores = Scores::kLowest},
                  kFewAndMany);
}

TEST(CpuAttendOrder, AValueThatIsNotFiniteReachesNoEarlierTokenWhereKeysAreCut) {
  constexpr int32_t kContext = 2040, kCount = 20;
  for (const int32_t odd : {2041, 2047, 2048, 2050}) {
    const Problem problem{
        .head = {2, 1, 32}, .sequences = {{kContext, kCount}}, .odd_token = odd, .odd_value = NAN};
    const std::vector<uint16_t> expected = Expected(problem);
    const auto before = (odd - kContext) * problem.head.heads * problem.head.head_dim;
    for (const std::string& isa : InstructionSets()) {
      for (const int32_t threads : kFewAndMany) {
        SCOPED_TRACE(isa + ", odd token " + std::to_string(odd));
        std::string error;
        const auto device = OpenDevice("cpu", {.threads = threads, .isa = isa}, &error);
        ASSERT_NE(device, nullptr) << error;
        const std::vector<uint16_t> computed = Answer(*device, problem).Compute();
        EXPECT_TRUE(std::equal(computed.begin(), computed.begin() + before, expected.begin()));
        EXPECT_TRUE(std::all_of(computed.begin() + before, computed.end(),
                                [](uint16_t x) { return !std::isfinite(F32FromBF16(x)); }));
      }
    }
  }
}

// The one score of the last segment is a NaN, which no maximum shows.
TEST(CpuAttendOrder, ASegmentOfNaNScoresIsSeen) {
  const Problem problem{.head = {2, 1, 32},
                        .sequences = {{2048, 1}},
                        .odd_token = 2048,
                        .odd_value = NAN,
                        .odd_key = true};
  for (const std::string& isa : InstructionSets()) {
    for (const int32_t threads : kFewAndMany) {
      std::string error;
      const auto device = OpenDevice("cpu", {.threads = threads, .isa = isa}, &error);
      ASSERT_NE(device, nullptr) << error;
      const std::vector<uint16_t> computed = Answer(*device, problem).Compute();
      EXPECT_TRUE(std::all_of(computed.begin(), computed.end(),
                              [](uint16_t x) { return !std::isfinite(F32FromBF16(x)); }))
          << isa << ", threads " << threads;
    }
  }
}

// In steps of one sequence, so that no row sees pieces that only its neighbours need: if all of a
// sum was flushed, +0 from such a piece turns -0 into +0.
TEST(CpuAttendOrder, Denormals) {
  for (const int32_t context : {63, 300}) {
    ExpectModelBits({.head = {4, 2, 64}, .sequences = {{context, 1}}, .scores = Scores::kTiny});
  }
}

// Nor is a segment folded in that a neighbour alone sees.
TEST(CpuAttendOrder, DenormalsBeforeANeighboursSegment) {
  for (const int32_t context : {1023, 2047}) {
    ExpectModelBits({.head = {4, 2, 64}, .sequences = {{context, 2}}, .scores = Scores::kTiny},
                    kFewAndMany);
  }
}

}  // namespace
}  // namespace baram::cpu
