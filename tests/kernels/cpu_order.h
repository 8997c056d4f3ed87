// The summation order of the CPU device, in scalar code: the reference of its order tests for every
// instruction set. The kernels run with denormals off; these functions behave so in any mode.
#ifndef BARAM_TESTS_KERNELS_CPU_ORDER_H_
#define BARAM_TESTS_KERNELS_CPU_ORDER_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "kernels/float_types.h"

namespace baram::cpu {

// Denormals are zero, both as operands and as results.
inline float Flush(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }

// a * b + c, rounded once.
inline float FusedMultiplyAdd(float a, float b, float c) {
  return Flush(std::fma(Flush(a), Flush(b), Flush(c)));
}

// The definition of the order: that of TDPBF16PS. For every 32 elements one chain of fused
// multiply-adds runs over the even ones and one over the odd ones, both from zero; then sum += even
// + odd. Elements past the end are zeros.
inline float AddProducts(std::span<const float> a, std::span<const float> b, float sum) {
  for (size_t block = 0; block < a.size(); block += 32) {
    float chains[2] = {0, 0};
    for (size_t k = block; k < std::min(block + 32, a.size()); ++k) {
      chains[k % 2] = FusedMultiplyAdd(a[k], b[k], chains[k % 2]);
    }
    sum = Flush(sum + Flush(chains[0] + chains[1]));
  }
  return sum;
}

inline constexpr float kLog2E = 0x1.715476p+0f;

// Exp2 in vec.inc.
inline float PowerOfTwo(float x) {
  constexpr float kRound = 0x1.8p23f + 127.0f;
  x = std::max(Flush(x), -127.0f);
  const float shifted = x + kRound;
  const float r = Flush(x - (shifted - kRound));
  float p = 0x1.23a5eep-10f;
  for (const float c : {0x1.3cbea8p-7f, 0x1.c74322p-5f, 0x1.ebfa4ep-3f, 0x1.62e39ep-1f, 1.0f}) {
    p = FusedMultiplyAdd(p, r, c);
  }
  return Flush(p * std::bit_cast<float>(std::bit_cast<uint32_t>(shifted) << 23));
}

// Rounds to bf16 by adding half; x must not be negative.
inline float RoundWeight(float x) {
  return std::bit_cast<float>((std::bit_cast<uint32_t>(x) + 0x8000u) & 0xffff0000u);
}

// Sums 16 lanes as a tree.
inline float SumOfLanes(std::array<float, 16> lanes) {
  for (const int half : {8, 4, 2, 1}) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// What a query row has of some keys: the score that weights are relative to, the sum of the
// weights, and of the weighted values.
struct AttendSums {
  float largest = -std::numeric_limits<float>::infinity();
  std::array<float, 16> sums = {};
  std::vector<float> out;
};

// What stands for the largest score while there is none above -infinity.
inline float BaseOf(float largest) {
  return largest == -std::numeric_limits<float>::infinity() ? 0.0f : largest;
}

// Keys [first, last] of one segment of 1024, in blocks of 128.
inline AttendSums AttendSegment(const std::vector<float>& q,
                                const std::vector<std::vector<float>>& keys,
                                const std::vector<std::vector<float>>& values, int32_t first,
                                int32_t last, float scale_log2) {
  AttendSums row;
  row.out.resize(q.size(), 0.0f);
  for (int32_t block = first / 128 * 128; block <= last; block += 128) {
    float scores[128], weights[128] = {};
    float maximum = -std::numeric_limits<float>::infinity();
    const int32_t begin = std::max(first - block, 0), end = std::min(last + 1 - block, 128);
    for (int32_t i = begin; i < end; ++i) {
      scores[i] = AddProducts(q, keys[block + i], 0);
      maximum = std::max(maximum, scores[i]);
    }
    if (const float scaled = Flush(maximum * scale_log2); scaled > row.largest + 8) {
      const float factor = PowerOfTwo(row.largest - scaled);
      for (float& x : row.out) x = Flush(x * factor);
      for (float& x : row.sums) x = Flush(x * factor);
      row.largest = scaled;
    }
    std::array<float, 16> block_sums = {};
    for (int32_t i = begin; i < end; ++i) {
      weights[i] =
          RoundWeight(PowerOfTwo(FusedMultiplyAdd(scores[i], scale_log2, -BaseOf(row.largest))));
      block_sums[i % 16] = Flush(block_sums[i % 16] + weights[i]);
    }
    for (int lane = 0; lane < 16; ++lane) {
      row.sums[lane] = Flush(row.sums[lane] + block_sums[lane]);
    }
    for (size_t d = 0; d < row.out.size(); ++d) {
      for (int32_t piece = begin / 32 * 32; piece < end; piece += 32) {
        float column[32] = {};
        for (int32_t i = std::max(begin, piece); i < std::min(end, piece + 32); ++i) {
          column[i - piece] = values[block + i][d];
        }
        row.out[d] = AddProducts({weights + piece, 32}, column, row.out[d]);
      }
    }
  }
  return row;
}

inline void FoldSegment(const AttendSums& segment, AttendSums& total) {
  const float largest = std::max(total.largest, segment.largest);
  const float kept = PowerOfTwo(total.largest - BaseOf(largest));
  const float added = PowerOfTwo(segment.largest - BaseOf(largest));
  const auto fold = [&](float x, float& to) { to = FusedMultiplyAdd(x, added, Flush(to * kept)); };
  for (int lane = 0; lane < 16; ++lane) fold(segment.sums[lane], total.sums[lane]);
  for (size_t d = 0; d < total.out.size(); ++d) fold(segment.out[d], total.out[d]);
  total.largest = largest;
}

// What attend.inc states: a query row at `position` over keys[key] and values[key], bf16 as fp32,
// segment by segment; bits of bf16.
inline std::vector<uint16_t> AttendRow(const std::vector<float>& q,
                                       const std::vector<std::vector<float>>& keys,
                                       const std::vector<std::vector<float>>& values,
                                       int32_t position, int32_t window, float scale) {
  AttendSums total;
  int32_t first = window == 0 ? 0 : std::max(0, position - window + 1);
  const int32_t first_segment = first / 1024;
  while (first <= position) {
    const int32_t last = std::min(position, first / 1024 * 1024 + 1023);
    AttendSums segment = AttendSegment(q, keys, values, first, last, scale * kLog2E);
    if (first / 1024 == first_segment) {
      total = std::move(segment);
    } else {
      FoldSegment(segment, total);
    }
    first = last + 1;
  }
  const float inverse = 1.0f / SumOfLanes(total.sums);
  std::vector<uint16_t> rounded;
  for (const float x : total.out) rounded.push_back(BF16FromF32(Flush(x * inverse)));
  return rounded;
}

}  // namespace baram::cpu

#endif  // BARAM_TESTS_KERNELS_CPU_ORDER_H_
