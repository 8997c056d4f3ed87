// RoPE tables, computed once at load in double precision.
#include "engine/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace baram {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

// Keeps short wavelengths, stretches long ones by the factor, and interpolates in between.
double Llama3Frequency(const RopeSpec& spec, double frequency) {
  const double wavelength = kTurn / frequency;
  if (wavelength < spec.original_max_positions / spec.high_freq_factor) return frequency;
  if (wavelength > spec.original_max_positions / spec.low_freq_factor) {
    return frequency / spec.factor;
  }
  const double kept = (spec.original_max_positions / wavelength - spec.low_freq_factor) /
                      (spec.high_freq_factor - spec.low_freq_factor);
  return (1 - kept) * frequency / spec.factor + kept * frequency;
}

// The index of the pair, as a real number, that makes `turns` turns over the original context.
double YarnPair(const RopeSpec& spec, double turns) {
  return spec.rotary_dim * std::log(spec.original_max_positions / (turns * kTurn)) /
         (2 * std::log(spec.theta));
}

void ScaleYarn(const RopeSpec& spec, std::vector<double>& frequencies) {
  double low = YarnPair(spec, spec.beta_fast);
  double high = YarnPair(spec, spec.beta_slow);
  if (spec.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, spec.rotary_dim - 1.0);
  if (low == high) high += 0.001;  // the reference's guard against a division by zero
  for (size_t j = 0; j < frequencies.size(); ++j) {
    const double stretched = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    frequencies[j] *= stretched / spec.factor + (1 - stretched);
  }
}

double YarnMagnitude(double factor, double mscale) {
  return factor > 1 ? 0.1 * mscale * std::log(factor) + 1 : 1.0;
}

}  // namespace

std::vector<double> RopeFrequencies(const RopeSpec& spec) {
  std::vector<double> frequencies(spec.rotary_dim / 2);
  for (size_t j = 0; j < frequencies.size(); ++j) {
    frequencies[j] = std::pow(spec.theta, -2.0 * static_cast<double>(j) / spec.rotary_dim);
  }
  switch (spec.scaling) {
    case RopeScaling::kDefault:
      break;
    case RopeScaling::kLinear:
      for (double& frequency : frequencies) frequency /= spec.factor;
      break;
    case RopeScaling::kLlama3:
      for (double& frequency : frequencies) frequency = Llama3Frequency(spec, frequency);
      break;
    case RopeScaling::kYarn:
      ScaleYarn(spec, frequencies);
      break;
  }
  return frequencies;
}

double RopeAttentionFactor(const RopeSpec& spec) {
  if (spec.scaling != RopeScaling::kYarn) return 1.0;
  if (spec.attention_factor > 0) return spec.attention_factor;
  if (spec.mscale > 0 && spec.mscale_all_dim > 0) {
    return YarnMagnitude(spec.factor, spec.mscale) /
           YarnMagnitude(spec.factor, spec.mscale_all_dim);
  }
  return YarnMagnitude(spec.factor, 1.0);
}

void FillRopeRows(const RopeSpec& spec, int64_t begin, int64_t count, float* rows) {
  const std::vector<double> frequencies = RopeFrequencies(spec);
  const double factor = RopeAttentionFactor(spec);
  const int64_t pairs = static_cast<int64_t>(frequencies.size());
  for (int64_t p = 0; p < count; ++p) {
    float* row = rows + p * spec.rotary_dim;
    for (int64_t j = 0; j < pairs; ++j) {
      const double angle = static_cast<double>(begin + p) * frequencies[j];
      row[j] = static_cast<float>(factor * std::cos(angle));
      row[pairs + j] = static_cast<float>(factor * std::sin(angle));
    }
  }
}

}  // namespace baram
