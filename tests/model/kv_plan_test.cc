// KvPlan: groups of equal layer count, as few and as full as possible.
#include "engine/model/kv_plan.h"

#include <gtest/gtest.h>

#include <set>

namespace baram {
namespace {

ModelSpec SpecOf(const std::vector<int32_t>& windows) {
  ModelSpec spec;
  spec.head = {.heads = 4, .kv_heads = 2, .head_dim = 64};
  spec.max_positions = 131072;
  for (const int32_t window : windows) {
    LayerSpec layer;
    layer.window = window;
    spec.layers.push_back(layer);
  }
  return spec;
}

std::vector<int32_t> Repeat(const std::vector<int32_t>& pattern, int times) {
  std::vector<int32_t> windows;
  for (int i = 0; i < times; ++i) windows.insert(windows.end(), pattern.begin(), pattern.end());
  return windows;
}

// Every layer has a unique place in a group with its window.
void ExpectPlaces(const ModelSpec& spec, const KvPlan& plan) {
  std::set<std::pair<int32_t, int32_t>> places;
  ASSERT_EQ(plan.layers.size(), spec.layers.size());
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const KvLayer& layer = plan.layers[i];
    ASSERT_LT(layer.group, plan.groups());
    EXPECT_LT(layer.index, plan.shape.layers_per_group);
    EXPECT_EQ(plan.windows[layer.group], spec.layers[i].window) << "layer " << i;
    EXPECT_TRUE(places.insert({layer.group, layer.index}).second) << "layer " << i;
  }
}

TEST(KvPlanTest, OneKindIsOneGroup) {
  const ModelSpec spec = SpecOf(Repeat({0}, 30));
  const KvPlan plan = PlanKv(spec, 32);
  EXPECT_EQ(plan.groups(), 1);
  EXPECT_EQ(plan.shape.layers_per_group, 30);
  EXPECT_EQ(plan.shape.page_tokens, 32);
  EXPECT_EQ(plan.shape.head, spec.head);
  ExpectPlaces(spec, plan);
}

TEST(KvPlanTest, Exaone4SixtyFourLayers) {
  const ModelSpec spec = SpecOf(Repeat({4096, 4096, 4096, 0}, 16));
  const KvPlan plan = PlanKv(spec, 32);
  EXPECT_EQ(plan.shape.layers_per_group, 16);
  int global = 0, windowed = 0;
  for (const int32_t window : plan.windows) (window == 0 ? global : windowed) += 1;
  EXPECT_EQ(global, 1);
  EXPECT_EQ(windowed, 3);
  ExpectPlaces(spec, plan);
  // Only the global group grows with a long sequence.
  EXPECT_DOUBLE_EQ(KvBytesPerToken(plan, 64'000), 2000);
}

TEST(KvPlanTest, LongSequencesDecide) {
  // Gemma 3 27B. Groups of 13 waste no place of the 52 windowed layers, and three for the ten
  // layers that keep every token; groups of ten waste eight windowed places.
  std::vector<int32_t> windows = Repeat({1024, 1024, 1024, 1024, 1024, 0}, 10);
  windows.insert(windows.end(), 2, 1024);
  ModelSpec spec = SpecOf(windows);
  const KvPlan plan = PlanKv(spec, 32);
  EXPECT_EQ(plan.shape.layers_per_group, 10);
  EXPECT_EQ(plan.groups(), 7);
  ExpectPlaces(spec, plan);
  // If no sequence is longer than a window, only the number of places counts.
  spec.max_positions = 1024;
  EXPECT_EQ(PlanKv(spec, 32).shape.layers_per_group, 13);
}

TEST(KvPlanTest, UnevenKindsPadTheLastGroup) {
  // 22 windowed and 4 global layers: seven groups of 4 layers waste 2 places, and no other split
  // that fits the page tables wastes fewer.
  std::vector<int32_t> windows = Repeat({512, 512, 512, 512, 512, 0}, 4);
  windows.insert(windows.end(), 2, 512);
  const ModelSpec spec = SpecOf(windows);
  const KvPlan plan = PlanKv(spec, 16);
  EXPECT_EQ(plan.shape.layers_per_group, 4);
  EXPECT_EQ(plan.groups(), 7);
  ExpectPlaces(spec, plan);
}

TEST(KvPlanTest, NeverMoreGroupsThanPageTables) {
  for (int global = 1; global <= 40; ++global) {
    for (int windowed = 0; windowed <= 40; ++windowed) {
      std::vector<int32_t> windows(global, 0);
      windows.insert(windows.end(), windowed, 128);
      const ModelSpec spec = SpecOf(windows);
      const KvPlan plan = PlanKv(spec, 16);
      ASSERT_LE(plan.groups(), kMaxKvGroups);
      ExpectPlaces(spec, plan);
    }
  }
}

TEST(KvPlanTest, WindowsAloneCostNothingInTheLongRun) {
  EXPECT_EQ(KvBytesPerToken(PlanKv(SpecOf({128, 128}), 16), 4096), 0);
}

}  // namespace
}  // namespace baram
