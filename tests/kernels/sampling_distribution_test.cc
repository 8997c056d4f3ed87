// Random numbers: Philox against published vectors, draws against their distributions. Seeds are
// fixed, so results are deterministic.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "kernels/device.h"
#include "kernels/sampler_math.h"
#include "tests/environment.h"

namespace baram {
namespace {

// Random123's known answers for philox4x32-10.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, 0, 0),
            (PhiloxWords{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  constexpr uint32_t kOnes = 0xffffffffu;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, kOnes, kOnes),
            (PhiloxWords{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(
      Philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, 0xa4093822u, 0x299f31d0u),
      (PhiloxWords{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

TEST(GumbelTest, IsFiniteAtBothEndsAndHasItsMean) {
  EXPECT_TRUE(std::isfinite(GumbelFromWord(0)));
  EXPECT_TRUE(std::isfinite(GumbelFromWord(0xffffffffu)));
  EXPECT_GT(GumbelFromWord(0), GumbelFromWord(1));
  double sum = 0;
  constexpr int kDraws = 100000;
  for (int token = 0; token < kDraws; ++token) sum += GumbelNoise(7, 0, 0, token);
  // The mean is Euler's constant, the standard deviation pi / sqrt(6): 4 standard errors are
  // 0.0162.
  EXPECT_NEAR(sum / kDraws, 0.5772156649, 0.0162);
}

TEST(GumbelTest, EveryPartOfTheKeyCounts) {
  const double base = GumbelNoise(1, 2, 3, 4);
  EXPECT_EQ(base, GumbelNoise(1, 2, 3, 4));
  EXPECT_NE(base, GumbelNoise(2, 2, 3, 4));
  EXPECT_NE(base, GumbelNoise(1ull + (1ull << 32), 2, 3, 4));
  EXPECT_NE(base, GumbelNoise(1, 3, 3, 4));
  EXPECT_NE(base, GumbelNoise(1, 2, 4, 4));
  EXPECT_NE(base, GumbelNoise(1, 2, 3, 5));
  EXPECT_NE(base, GumbelNoise(1, 2, 3, 8));
}

constexpr int kVocab = 12;
constexpr int kDraws = 8192;
constexpr int kSlots = 256;

// Draws kDraws tokens from the same logits, at positions 1 .. of many sequences.
std::vector<int> Histogram(Device& device, const std::vector<float>& logits,
                           const SamplingParams& sampling) {
  EXPECT_TRUE(device.ReserveSlots({.slots = kSlots,
                                   .groups = 1,
                                   .max_pages_per_slot = 1,
                                   .vocab_size = kVocab,
                                   .max_step_tokens = kSlots,
                                   .max_step_outputs = kSlots}));
  const Buffer logits_memory = device.Alloc(kSlots * kVocab * sizeof(float));
  const Buffer results_memory = device.Alloc(kSlots * sizeof(TokenResult));
  std::vector<SlotInit> inits;
  std::vector<Row> rows;
  for (int32_t slot = 0; slot < kSlots; ++slot) {
    SlotInit init;
    init.slot = slot;
    init.sampling = sampling;
    init.sampling.seed += slot;
    inits.push_back(init);
    rows.push_back({.slot = slot, .draws = true});
  }
  const std::vector<int32_t> tokens(kSlots, 0);
  std::vector<float> batch;
  for (int i = 0; i < kSlots; ++i) batch.insert(batch.end(), logits.begin(), logits.end());

  std::vector<int> histogram(kVocab, 0);
  std::vector<TokenResult> results(kSlots);
  for (int step = 0; step < kDraws / kSlots; ++step) {
    device.Upload(logits_memory.data(), batch.data(), batch.size() * sizeof(float));
    const StepView view = device.BeginStep({.inits = step == 0 ? inits : std::vector<SlotInit>(),
                                            .page_deltas = {},
                                            .rows = rows,
                                            .tokens = tokens,
                                            .targets = {}});
    device.Sample({.step = view,
                   .logits = DenseTensor(logits_memory.data(), DType::kF32, kSlots, kVocab),
                   .valid_vocab = kVocab,
                   .results = static_cast<TokenResult*>(results_memory.data())});
    device.Download(results.data(), results_memory.data(), kSlots * sizeof(TokenResult));
    EXPECT_TRUE(device.Wait(device.Record()));
    for (const TokenResult& result : results) {
      EXPECT_EQ(result.flags, kResultOk);
      ++histogram[result.token];
    }
  }
  return histogram;
}

struct Distribution {
  const char* name;
  SamplingParams sampling;
  // Whether a token may be drawn at all, given its probability relative to the largest one, and the
  // number and total probability of the tokens above it, all at temperature 1.
  std::function<bool(double ratio, int rank, double larger)> kept;
};

class SamplingDistributionTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SamplingDistributionTest, DrawsAreDistributedAsTheyShould) {
  const std::vector<float> logits = {1.0f, -0.5f, 2.0f, 0.3f, -3.0f, 1.7f,
                                     0.9f, -1.0f, 0.0f, 1.4f, -2.0f, 0.6f};
  const auto all = [](double, int, double) { return true; };
  const std::vector<Distribution> distributions = {
      {"plain", {.seed = 11}, all},
      {"temperature", {.temperature = 0.5f, .seed = 12}, all},
      {"hot", {.temperature = 2.5f, .seed = 13}, all},
      {"top_k", {.top_k = 4, .seed = 14}, [](double, int rank, double) { return rank < 4; }},
      {"top_p",
       {.top_p = 0.6f, .seed = 15},
       [](double, int, double larger) { return larger < 0.6; }},
      {"min_p",
       {.min_p = 0.3f, .seed = 16},
       [](double ratio, int, double) { return ratio >= 0.3; }},
  };
  for (const Distribution& distribution : distributions) {
    SCOPED_TRACE(distribution.name);
    std::string error;
    const std::unique_ptr<Device> device = OpenDevice(GetParam(), {}, &error);
    ASSERT_NE(device, nullptr) << error;
    const std::vector<int> histogram = Histogram(*device, logits, distribution.sampling);

    const float largest = *std::max_element(logits.begin(), logits.end());
    double sum_at_one = 0;
    for (float logit : logits) sum_at_one += std::exp(logit);
    std::vector<double> expected(kVocab, 0);
    double sum = 0;
    for (int v = 0; v < kVocab; ++v) {
      int rank = 0;
      double larger = 0;
      for (float logit : logits) {
        if (logit <= logits[v]) continue;
        ++rank;
        larger += std::exp(logit) / sum_at_one;
      }
      if (!distribution.kept(std::exp(logits[v] - largest), rank, larger)) continue;
      expected[v] = std::exp(logits[v] / distribution.sampling.temperature);
      sum += expected[v];
    }
    double chi_square = 0;
    int degrees = -1;
    for (int v = 0; v < kVocab; ++v) {
      const double count = expected[v] / sum * kDraws;
      if (count == 0) {
        EXPECT_EQ(histogram[v], 0) << "token " << v << " was filtered";
        continue;
      }
      chi_square += (histogram[v] - count) * (histogram[v] - count) / count;
      ++degrees;
    }
    // For n degrees of freedom, 99.9 % of chi-square values are below n + 4 sqrt(n) + 6, for n from
    // 1 to 12.
    EXPECT_LT(chi_square, degrees + 4 * std::sqrt(degrees) + 6);
    EXPECT_GT(chi_square, 0);
  }
}

std::vector<std::string> Devices() {
  const std::string requested = baram::testing::RequestedDevice();
  return requested.empty() ? std::vector<std::string>{"cpu", "ref"}
                           : std::vector<std::string>{requested};
}

INSTANTIATE_TEST_SUITE_P(Devices, SamplingDistributionTest, ::testing::ValuesIn(Devices()),
                         [](const auto& info) { return baram::testing::TestName(info.param); });

}  // namespace
}  // namespace baram
