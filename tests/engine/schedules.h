// One request for a small real model, and the schedules it is run under to check a device's
// promises: exactness_test on exact devices, identities_test on any.
#ifndef BARAM_TESTS_ENGINE_SCHEDULES_H_
#define BARAM_TESTS_ENGINE_SCHEDULES_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {

inline constexpr int32_t kRealVocab = 293;
inline constexpr int32_t kRealPrompt = 90;
inline constexpr int32_t kRealOutput = 12;

// Odd sizes on purpose: no dimension is a multiple of a tile, and one case has two groups of pages.
inline ModelSpec RealSpec(const std::vector<int32_t>& windows) {
  ModelSpec spec;
  spec.architecture = spec.family = "Exact";
  spec.hidden = 72;
  spec.vocab_size = kRealVocab;
  spec.max_positions = 512;
  spec.head = {.heads = 6, .kv_heads = 2, .head_dim = 20};
  spec.ropes = {{.rotary_dim = 20}};
  for (const int32_t window : windows) {
    spec.layers.push_back({.window = window,
                           .attention_scale = 0.22f,
                           .qk_norm = NormKind::kPlain,
                           .qkv_bias = true,
                           .ffn = 104});
  }
  return spec;
}

inline EngineConfig PlainConfig() {
  EngineConfig config;
  config.max_model_len = 256;
  config.max_num_seqs = 40;
  config.max_num_batched_tokens = 512;
  config.kv_cache_bytes = 64 << 20;
  return config;
}

inline std::vector<int32_t> RealPrompt(uint64_t seed, int32_t tokens) {
  std::vector<int32_t> prompt = RandomPrompt(seed, tokens);
  for (int32_t& id : prompt) id = (id * 7 + static_cast<int32_t>(seed)) % kRealVocab;
  return prompt;
}

// One way to run a request: `company` other requests keep the engine busy.
struct Schedule {
  std::string name;
  EngineConfig config;
  int32_t company = 0;
};

// The prompt in one chunk, alone.
inline Schedule PlainSchedule() { return {"alone", PlainConfig()}; }

inline std::vector<Schedule> OtherSchedules(int32_t company) {
  std::vector<Schedule> schedules;
  for (const int32_t chunk : {1, 7, 64}) {
    EngineConfig config = PlainConfig();
    config.max_chunk_tokens = chunk;
    schedules.push_back({"chunks of " + std::to_string(chunk), config});
  }
  EngineConfig preempting = PlainConfig();
  preempting.preempt_every_draw = true;
  schedules.push_back({"preempted at every step, from the cache", preempting});
  preempting.prefix_cache = false;
  schedules.push_back({"preempted at every step, recomputed", preempting});
  schedules.push_back({"among " + std::to_string(company) + " others", PlainConfig(), company});
  return schedules;
}

// Runs `request` in a new engine; returns its first output.
inline Received RunUnder(const Schedule& schedule, const std::vector<int32_t>& windows,
                         std::unique_ptr<Device> device, Request request) {
  EngineRig rig(RealSpec(windows), std::move(device), schedule.config);
  for (int32_t i = 0; i < schedule.company; ++i) {
    rig.Submit(MakeRequest(RealPrompt(100 + i, 3 + 5 * (i % 9)), 20));
    if (i % 4 == 0) rig.Turn();
  }
  const auto expected = static_cast<size_t>(request.max_tokens);
  Client* client = rig.Submit(std::move(request));
  EXPECT_TRUE(rig.Finish());
  EXPECT_EQ(client->outputs[0].tokens.size(), expected);
  return client->outputs[0];
}

// Every token with the bits of its log-probabilities.
inline std::string Bits(const Received& received) {
  std::string bits;
  const auto append = [&bits](const auto& value) {
    bits.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  for (const TokenResult& token : received.tokens) {
    append(token.token);
    append(token.rank);
    append(token.logprob);
    for (int32_t i = 0; i < token.top_count; ++i) {
      append(token.top_ids[i]);
      append(token.top_logprobs[i]);
    }
  }
  return bits;
}

}  // namespace baram::testing

#endif  // BARAM_TESTS_ENGINE_SCHEDULES_H_
