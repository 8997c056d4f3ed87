// I10 on the real devices: a row's bits depend on its own prefix alone. Ids and log-probabilities
// are the same for every chunking, cache hit, number of workers, instruction set, preemption,
// output count and company.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

constexpr int32_t kVocab = 293;
constexpr int32_t kPrompt = 90;
constexpr int32_t kOutput = 12;

// Odd sizes on purpose: no dimension is a multiple of a tile, and two groups of pages in one case.
ModelSpec RealSpec(const std::vector<int32_t>& windows) {
  ModelSpec spec;
  spec.architecture = spec.family = "Exact";
  spec.hidden = 72;
  spec.vocab_size = kVocab;
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

struct Place {
  std::string device = "ref";
  DeviceOptions options;
  std::unique_ptr<Device> Open() const {
    std::string error;
    return OpenDevice(device, options, &error);
  }
};

EngineConfig BaseConfig() {
  EngineConfig config;
  config.max_model_len = 256;
  config.max_num_seqs = 40;
  config.max_num_batched_tokens = 512;
  config.kv_cache_bytes = 64 << 20;
  return config;
}

std::vector<int32_t> Prompt(uint64_t seed, int32_t tokens) {
  std::vector<int32_t> prompt = RandomPrompt(seed, tokens);
  for (int32_t& id : prompt) id = (id * 7 + static_cast<int32_t>(seed)) % kVocab;
  return prompt;
}

// Sampled, penalized and with alternatives: everything that could differ is looked at.
Request Wanted() {
  Request request = MakeRequest(Prompt(1, kPrompt), kOutput);
  request.sampling.temperature = 0.8f;
  request.sampling.top_p = 0.95f;
  request.sampling.repetition_penalty = 1.1f;
  request.sampling.seed = 5;
  request.sampling.logprobs = 5;
  return request;
}

// Every token with the bits of its log-probabilities.
std::string Bits(const Received& received) {
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

class ExactnessTest : public ::testing::TestWithParam<std::vector<int32_t>> {
 protected:
  // The request's bits in an engine that `company` other requests keep busy.
  std::string Run(const Place& place, const EngineConfig& config, int32_t company = 0) {
    EngineRig rig(RealSpec(GetParam()), place.Open(), config);
    std::vector<Client*> others;
    for (int32_t i = 0; i < company; ++i) {
      others.push_back(rig.Submit(MakeRequest(Prompt(100 + i, 3 + 5 * (i % 9)), 20)));
      if (i % 4 == 0) rig.Turn();
    }
    Client* client = rig.Submit(Wanted());
    EXPECT_TRUE(rig.Finish());
    EXPECT_EQ(client->outputs[0].tokens.size(), static_cast<size_t>(kOutput));
    return Bits(client->outputs[0]);
  }

  // All the ways of running one request on one device.
  void ExpectAllWaysEqual(const Place& place, const std::string& expected) {
    for (const int32_t chunk : {1, 7, 64}) {
      EngineConfig config = BaseConfig();
      config.max_chunk_tokens = chunk;
      EXPECT_EQ(Run(place, config), expected) << "chunks of " << chunk;
    }
    EngineConfig preempting = BaseConfig();
    preempting.preempt_every_draw = true;
    EXPECT_EQ(Run(place, preempting), expected) << "preempted at every step, from the cache";
    preempting.prefix_cache = false;
    EXPECT_EQ(Run(place, preempting), expected) << "preempted at every step, recomputed";
    EXPECT_EQ(Run(place, BaseConfig(), /*company=*/31), expected) << "among 31 others";
    ExpectCachedAndMultipleEqual(place, expected);
  }

  void ExpectCachedAndMultipleEqual(const Place& place, const std::string& expected) {
    EngineRig rig(RealSpec(GetParam()), place.Open(), BaseConfig());
    Client* cold = rig.Submit(Wanted());
    ASSERT_TRUE(rig.Finish());
    Client* warm = rig.Submit(Wanted());
    ASSERT_TRUE(rig.Finish());
    EXPECT_GT(warm->outbox->cached_tokens(), 0);
    EXPECT_EQ(Bits(cold->outputs[0]), expected);
    EXPECT_EQ(Bits(warm->outputs[0]), expected) << "from the prefix cache";
    Request request = Wanted();
    request.n = 4;
    request.cache_salt = "apart";
    Client* four = rig.Submit(std::move(request));
    ASSERT_TRUE(rig.Finish());
    EXPECT_EQ(Bits(four->outputs[0]), expected) << "the first of four";
    EXPECT_NE(Bits(four->outputs[1]), expected) << "the second draws for itself";
  }
};

TEST_P(ExactnessTest, RefIsExact) {
  const Place place{"ref", {}};
  ExpectAllWaysEqual(place, Run(place, BaseConfig()));
}

TEST_P(ExactnessTest, EveryInstructionSetAndWorkerCountIsExactAndEqual) {
  std::string expected;
  for (const char* isa : {"avx2", "avx512", "amx"}) {
    for (const int32_t threads : {1, 2}) {
      const Place place{"cpu", {.threads = threads, .isa = isa}};
      if (place.Open() == nullptr) continue;  // not on this machine
      SCOPED_TRACE(std::string(isa) + ", workers " + std::to_string(threads));
      const std::string bits = Run(place, BaseConfig());
      if (expected.empty()) expected = bits;
      EXPECT_EQ(bits, expected);
      if (threads == 2) ExpectAllWaysEqual(place, expected);
    }
  }
  EXPECT_FALSE(expected.empty());
}

TEST_P(ExactnessTest, PromptScoresDoNotDependOnTheirChunks) {
  for (const char* device : {"ref", "cpu"}) {
    std::vector<float> expected;
    for (const int32_t rows : {256, 11}) {
      EngineConfig config = BaseConfig();
      config.max_logit_rows = rows;
      EngineRig rig(RealSpec(GetParam()), Place{device, {}}.Open(), config);
      Request request = Wanted();
      request.prompt_logprobs = 0;
      Client* client = rig.Submit(std::move(request));
      ASSERT_TRUE(rig.Finish());
      std::vector<float> scores;
      for (const TokenResult& score : client->scores) scores.push_back(score.logprob);
      EXPECT_EQ(scores.size(), static_cast<size_t>(kPrompt - 1));
      if (expected.empty()) expected = scores;
      EXPECT_EQ(scores, expected) << device;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Full, ExactnessTest, ::testing::Values(std::vector<int32_t>{0, 0}));
INSTANTIATE_TEST_SUITE_P(Windowed, ExactnessTest,
                         ::testing::Values(std::vector<int32_t>{24, 0, 24}));

}  // namespace
}  // namespace baram::testing
