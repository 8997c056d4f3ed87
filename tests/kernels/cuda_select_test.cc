// Selection without sorting, against sorted items: exact sums of weights, digit by digit, and short
// lists.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "kernels/cuda/prims/select.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kThreads = 96;

struct SelectArgs {
  const uint32_t* keys;
  const Weight* weights;
  int32_t count;
  const Weight* wanted;  // one per block
  uint32_t* found;
};

__global__ void SelectKernel(const __grid_constant__ SelectArgs args) {
  WaitForPrevious();
  __shared__ SelectMemory memory;
  const uint32_t found = SelectKey(args.wanted[blockIdx.x], memory, [&](const auto& add) {
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < args.count; i += blockDim.x) {
      add(args.keys[i], args.weights[i]);
    }
  });
  if (threadIdx.x == 0) args.found[blockIdx.x] = found;
}

// The largest key such that the weights of keys at or above it reach `wanted`.
uint32_t Selected(const SelectArgs& args, Weight wanted) {
  std::vector<uint32_t> keys(args.keys, args.keys + args.count);
  std::sort(keys.begin(), keys.end(), std::greater<>());
  for (uint32_t key : keys) {
    Weight sum = 0;
    for (int32_t i = 0; i < args.count; ++i) sum += args.keys[i] >= key ? args.weights[i] : 0;
    if (sum >= wanted) return key;
  }
  return 0;
}

TEST(CudaSelect, FindsTheKeyWhoseWeightIsReached) {
  std::mt19937_64 random(5);
  std::vector<uint32_t> keys(500);
  std::vector<Weight> weights(keys.size());
  Weight total = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    // Many share their first digits, some all of them.
    keys[i] = 0xc0000000u + static_cast<uint32_t>(random() % 3 << 24 | random() % 200);
    weights[i] = random() >> 24;  // 40 bits: lower halves overflow
    total += weights[i];
  }
  std::vector<Weight> wanted = {1, total / 3, total / 2, total - 1, total, total + 1};
  std::vector<uint32_t> found(wanted.size());
  const SelectArgs args{keys.data(), weights.data(), static_cast<int32_t>(keys.size()),
                        wanted.data(), found.data()};
  Launch(SelectKernel, {static_cast<uint32_t>(wanted.size())}, {kThreads}, 0, {nullptr}, args);
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(found[i], Selected(args, wanted[i])) << wanted[i];
  }
}

// A row of values, as read by Shorten.
struct Values {
  const float* values;
  int32_t count;
  template <typename Visit>
  __device__ void ForTokens(const Visit& visit) const {
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += blockDim.x) {
      visit(i, values[i]);
    }
  }
};

struct ListArgs {
  Values row;
  float start;
  int32_t k;
  int32_t* found;
  float* kth;
};

__global__ void ListKernel(const __grid_constant__ ListArgs args) {
  WaitForPrevious();
  __shared__ SelectMemory memory;
  const bool fits = Shorten(args.row, args.start, memory.list);
  const float kth = fits ? KthOf(memory.list, args.k, memory) : 0.0f;
  if (threadIdx.x == 0) {
    *args.found = fits ? memory.list.found : -1;
    *args.kth = kth;
  }
}

TEST(CudaSelect, ListsWhatIsLargeAndRanksIt) {
  std::mt19937 random(7);
  std::vector<float> values(3000);
  for (float& value : values) value = static_cast<float>(random() % 100) - 50.0f;
  std::vector<float> sorted = values;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const auto list = [&](float start, int32_t k) {
    int32_t found = 0;
    float kth = 0;
    Launch(ListKernel, {1}, {kThreads}, 0, {nullptr},
           ListArgs{{values.data(), 3000}, start, k, &found, &kth});
    return std::pair(found, kth);
  };
  const auto from_20 = static_cast<int32_t>(
      std::count_if(values.begin(), values.end(), [](float value) { return value >= 20.0f; }));
  for (int32_t k : {1, 2, 40, 500, from_20}) {
    EXPECT_EQ(list(20.0f, k), std::pair(from_20, sorted[k - 1])) << k;
  }
  EXPECT_EQ(list(20.0f, from_20 + 1), std::pair(from_20, -INFINITY));
  EXPECT_EQ(list(-50.0f, 1).first, -1);  // too long
}

}  // namespace
}  // namespace baram::cuda
