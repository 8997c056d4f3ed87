// RoPE tables against values computed by hand or with the reference library.
#include "engine/model/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace baram {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

RopeSpec Spec(RopeScaling scaling, int32_t rotary_dim) {
  RopeSpec spec;
  spec.scaling = scaling;
  spec.rotary_dim = rotary_dim;
  return spec;
}

TEST(RopeTest, DefaultFrequenciesArePowersOfTheta) {
  EXPECT_THAT(RopeFrequencies(Spec(RopeScaling::kDefault, 8)),
              ElementsAre(DoubleNear(1, 1e-15), DoubleNear(0.1, 1e-15), DoubleNear(0.01, 1e-15),
                          DoubleNear(0.001, 1e-15)));
}

TEST(RopeTest, LinearDividesByTheFactor) {
  RopeSpec spec = Spec(RopeScaling::kLinear, 4);
  spec.factor = 4;
  EXPECT_THAT(RopeFrequencies(spec),
              ElementsAre(DoubleNear(0.25, 1e-15), DoubleNear(0.0025, 1e-15)));
}

TEST(RopeTest, Llama3KeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  RopeSpec spec = Spec(RopeScaling::kLlama3, 8);
  spec.factor = 8;
  spec.original_max_positions = 128;
  spec.low_freq_factor = 1;
  spec.high_freq_factor = 4;
  // Wavelengths 6.28, 62.8, 628, 6283 against bounds of 32 and 128.
  const double blend = (128 / (20 * std::numbers::pi) - 1) / 3;
  EXPECT_THAT(
      RopeFrequencies(spec),
      ElementsAre(DoubleNear(1, 1e-15), DoubleNear((1 - blend) * 0.1 / 8 + blend * 0.1, 1e-15),
                  DoubleNear(0.01 / 8, 1e-15), DoubleNear(0.001 / 8, 1e-15)));
}

// 16 dimensions, theta 10000, original length 4096: pair j makes 4096 * 10^(-j/2) / (2 pi) turns,
// so 32 turns fall at j = 2.62 and one at 5.63: the ramp runs from 2 to 6.
TEST(RopeTest, YarnRampsBetweenRoundedPairs) {
  RopeSpec spec = Spec(RopeScaling::kYarn, 16);
  spec.factor = 16;
  spec.original_max_positions = 4096;
  std::vector<double> expected;
  for (int j = 0; j < 8; ++j) {
    const double ramp = std::clamp((j - 2) / 4.0, 0.0, 1.0);
    expected.push_back(std::pow(10.0, -j / 2.0) * (ramp / 16 + 1 - ramp));
  }
  EXPECT_THAT(RopeFrequencies(spec), Pointwise(DoubleNear(1e-12), expected));

  spec.truncate = false;
  const double low = 16 * std::log(4096 / (32 * 2 * std::numbers::pi)) / (2 * std::log(10000.0));
  const double high = 16 * std::log(4096 / (2 * std::numbers::pi)) / (2 * std::log(10000.0));
  for (int j = 0; j < 8; ++j) {
    const double ramp = std::clamp((j - low) / (high - low), 0.0, 1.0);
    expected[j] = std::pow(10.0, -j / 2.0) * (ramp / 16 + 1 - ramp);
  }
  EXPECT_THAT(RopeFrequencies(spec), Pointwise(DoubleNear(1e-12), expected));
}

TEST(RopeTest, YarnsRampStaysWithinThePairs) {
  RopeSpec spec = Spec(RopeScaling::kYarn, 16);
  spec.factor = 16;
  const auto expect = [&](double low, double high) {
    std::vector<double> expected;
    for (int j = 0; j < 8; ++j) {
      const double ramp = std::clamp((j - low) / (high - low), 0.0, 1.0);
      expected.push_back(std::pow(spec.theta, -j / 8.0) * (ramp / 16 + 1 - ramp));
    }
    EXPECT_THAT(RopeFrequencies(spec), Pointwise(DoubleNear(1e-12), expected));
  };
  spec.original_max_positions = 64;  // 32 turns fall at j = -0.99, one at 2.02
  expect(0, 3);
  spec.original_max_positions = 4;  // both before the first pair: no ramp is left
  expect(0, 0.001);
  spec.theta = 10;
  spec.original_max_positions = 726;  // at 4.46 and 16.5
  expect(4, 15);
}

TEST(RopeTest, YarnsMagnitude) {
  RopeSpec spec = Spec(RopeScaling::kYarn, 16);
  spec.factor = 16;
  EXPECT_DOUBLE_EQ(RopeAttentionFactor(spec), 0.1 * std::log(16) + 1);
  spec.mscale = 1.5;  // has no effect alone
  EXPECT_DOUBLE_EQ(RopeAttentionFactor(spec), 0.1 * std::log(16) + 1);
  spec.mscale_all_dim = 0.5;
  EXPECT_DOUBLE_EQ(RopeAttentionFactor(spec),
                   (0.15 * std::log(16) + 1) / (0.05 * std::log(16) + 1));
  spec.attention_factor = 1.25;
  EXPECT_DOUBLE_EQ(RopeAttentionFactor(spec), 1.25);
  spec.scaling = RopeScaling::kLinear;
  EXPECT_DOUBLE_EQ(RopeAttentionFactor(spec), 1);
}

TEST(RopeTest, ShrinkingYarnHasNoMagnitude) {
  RopeSpec spec = Spec(RopeScaling::kYarn, 16);
  spec.factor = 0.5;
  EXPECT_DOUBLE_EQ(RopeAttentionFactor(spec), 1);
}

TEST(RopeTest, RowsAreCosinesThenSinesAndDoNotDependOnWhereTheyBegin) {
  RopeSpec spec = Spec(RopeScaling::kYarn, 6);
  spec.factor = 4;
  spec.original_max_positions = 64;
  spec.attention_factor = 2;
  const std::vector<double> frequencies = RopeFrequencies(spec);
  std::vector<float> rows(4 * 6), tail(2 * 6);
  FillRopeRows(spec, 100'000, 4, rows.data());
  FillRopeRows(spec, 100'002, 2, tail.data());
  EXPECT_EQ(tail, std::vector<float>(rows.begin() + 2 * 6, rows.end()));
  for (int p = 0; p < 4; ++p) {
    for (int j = 0; j < 3; ++j) {
      const double angle = (100'000 + p) * frequencies[j];
      EXPECT_FLOAT_EQ(rows[p * 6 + j], static_cast<float>(2 * std::cos(angle)));
      EXPECT_FLOAT_EQ(rows[p * 6 + 3 + j], static_cast<float>(2 * std::sin(angle)));
    }
  }
}

}  // namespace
}  // namespace baram
