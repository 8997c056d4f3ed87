// EngineRig: clients, turns, and the fake device's tokens by definition.
#include "tests/engine/rig.h"

#include <algorithm>
#include <random>

#include "engine/open.h"
#include "gtest/gtest.h"
#include "kernels/check.h"

namespace baram::testing {

ModelSpec TinySpec(const std::vector<int32_t>& windows, int32_t max_positions) {
  ModelSpec spec;
  spec.architecture = spec.family = "Tiny";
  spec.hidden = 16;
  spec.vocab_size = kTinyVocab;
  spec.max_positions = max_positions;
  spec.head = {.heads = 2, .kv_heads = 1, .head_dim = 8};
  spec.ropes = {{.rotary_dim = 8}};
  spec.tied_lm_head = true;
  for (const int32_t window : windows) {
    spec.layers.push_back({.window = window, .attention_scale = 0.35f, .ffn = 16});
  }
  return spec;
}

std::vector<int32_t> Received::Ids() const {
  std::vector<int32_t> ids;
  for (const TokenResult& token : tokens) ids.push_back(token.token);
  return ids;
}

bool Client::done() const { return std::ranges::all_of(outputs, &Received::done); }

void Client::Read(int32_t tokens) {
  TokenResult token;
  while (outbox->PopPromptScore(&token)) scores.push_back(token);
  for (size_t i = 0; i < outputs.size(); ++i) {
    Received& received = outputs[i];
    const auto index = static_cast<int32_t>(i);
    for (int32_t n = 0; n < tokens && outbox->Pop(index, &token); ++n) {
      received.tokens.push_back(token);
    }
    baram::Finish finish;
    if (!received.done() && outbox->Finished(index, &finish)) received.finishes.push_back(finish);
  }
}

std::unique_ptr<Client> MakeClient(Request request) {
  auto client = std::make_unique<Client>();
  client->outputs.resize(request.n);
  client->request = std::move(request);
  return client;
}

EngineRig::EngineRig(const FakeOptions& fake, EngineConfig config,
                     const std::vector<int32_t>& windows, int32_t pages) {
  const ModelSpec spec = TinySpec(windows);
  auto device = std::make_unique<FakeDevice>(fake);
  if (pages > 0) {
    config.kv_cache_bytes = pages * device->KvBytesPerPage(PlanKv(spec, fake.page_tokens).shape);
  }
  Start(config, spec, std::move(device));
}

EngineRig::EngineRig(const ModelSpec& spec, std::unique_ptr<Device> device,
                     const EngineConfig& config) {
  Start(config, spec, std::move(device));
}

void EngineRig::Start(const EngineConfig& config, const ModelSpec& spec,
                      std::unique_ptr<Device> device) {
  auto model = OpenRandomModel(config, spec, std::move(device), /*seed=*/1);
  Check(model.ok(), model.status().ToString().c_str());
  model_ = *std::move(model);
  core_ = std::make_unique<EngineCore>(config, *model_);
  runner_ = std::make_unique<StepRunner>(*model_);
}

Client* EngineRig::Submit(Request request) {
  request.id = "request-" + std::to_string(next_id_++);
  request.arrival = now_;
  std::unique_ptr<Client> client = MakeClient(request);
  auto outbox = core_->Submit(std::move(request));
  Check(outbox.ok(), outbox.status().ToString().c_str());
  client->outbox = *std::move(outbox);
  clients_.push_back(std::move(client));
  return clients_.back().get();
}

bool EngineRig::TakeTurn(bool is_checked) {
  const auto check = [this, is_checked] {
    if (is_checked) core_->scheduler().CheckInvariants();
  };
  const auto run = [this, &check, is_checked](Batch* planned) {
    check();
    if (is_checked) KeepScores(planned);
    Advance(step_s_);
    return planned != nullptr ? runner_->Run(planned) : runner_->Flush();
  };
  const bool did_something = core_->Turn([this] { return now_; }, run);
  check();
  Advance(0.001);
  return did_something;
}

void EngineRig::KeepScores(const Batch* planned) {
  scores_.clear();
  if (planned == nullptr) return;
  for (const PlannedRow& row : planned->planned()) {
    scores_.emplace_back(RankOf(*row.sequence), row.row.scores);
  }
}

bool EngineRig::NoScoresLeftFor(const Sequence& sequence) const {
  int32_t ahead = 0;
  for (const auto& [rank, scores] : scores_) {
    if (rank < RankOf(sequence)) ahead += scores;
  }
  return ahead == model_->info.max_logit_rows;
}

bool EngineRig::Turn() { return TakeTurn(/*is_checked=*/true); }
bool EngineRig::TurnUnchecked() { return TakeTurn(/*is_checked=*/false); }

void EngineRig::Advance(double seconds) { now_ = After(now_, seconds); }

bool EngineRig::Finish(int32_t most_turns) {
  for (int32_t turn = 0; turn < most_turns; ++turn) {
    Turn();
    bool done = core_->idle();
    for (const auto& client : clients_) {
      client->Read();
      done = done && client->done();
    }
    if (done && core_->steps_in_flight() == 0) return true;
  }
  return false;
}

const Sequence& EngineRig::sequence(const Client& client, int32_t index) const {
  for (const auto& live : core_->scheduler().requests()) {
    if (live->request.id == client.request.id) return live->outputs[index];
  }
  Fatal("the client's request is live");
}

std::vector<int32_t> RandomPrompt(uint64_t seed, int32_t tokens) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> prompt(tokens);
  for (int32_t& id : prompt) id = static_cast<int32_t>(random() % kTinyVocab);
  return prompt;
}

Request MakeRequest(std::vector<int32_t> prompt, int32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

EngineConfig SmallConfig() {
  EngineConfig config;
  config.max_model_len = 256;
  config.max_num_seqs = 8;
  config.max_num_batched_tokens = 16;
  return config;
}

namespace {

// The hash of everything that the token at the end of `ids` sees.
uint64_t HashOf(const std::vector<int32_t>& ids, size_t count,
                const std::vector<int32_t>& windows) {
  uint64_t hash = 0;
  for (const int32_t window : windows) {
    const size_t reach = window == 0 ? count : std::min<size_t>(window, count);
    for (size_t i = count - reach; i < count; ++i) {
      hash = FakeMix(hash, i << 32 | static_cast<uint32_t>(ids[i]));
    }
  }
  return hash;
}

// For penalties, see kernels/slots.h.
std::vector<uint16_t> CountsOf(const std::vector<int32_t>& ids, size_t prompt) {
  std::vector<uint16_t> counts(kTinyVocab);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i < prompt) {
      counts[ids[i]] |= kCountInPrompt;
    } else {
      ++counts[ids[i]];
    }
  }
  return counts;
}

float LogprobOf(uint64_t hash, int32_t token) {
  return -static_cast<float>(FakeMix(hash, token) >> 40) * 0x1p-20f;
}

}  // namespace

ExpectedOutput Expect(const Request& request, int32_t index, const std::vector<int32_t>& windows,
                      int32_t max_model_len, uint64_t nonfinite_divisor) {
  ExpectedOutput expected;
  std::vector<int32_t> ids = request.prompt;
  const int32_t most = std::min<int32_t>(request.max_tokens, max_model_len - std::ssize(ids));
  const auto stops = [&request](int32_t id) {
    return std::ranges::find(request.stop_ids, id) != request.stop_ids.end();
  };
  if (nonfinite_divisor > 0 && request.prompt_logprobs >= 0) {
    for (size_t i = 1; i < ids.size(); ++i) {
      if (HashOf(ids, i, windows) % nonfinite_divisor == 1) {
        expected.reason = FinishReason::kFailed;
        return expected;
      }
    }
  }
  for (int32_t drawn = 0; drawn < most; ++drawn) {
    const uint64_t hash = HashOf(ids, ids.size(), windows);
    if (nonfinite_divisor > 0 && hash % nonfinite_divisor == 1) {
      expected.reason = FinishReason::kFailed;
      return expected;
    }
    uint64_t draw = FakeMix(FakeMix(hash, request.sampling.seed), index);
    if (request.sampling.NeedsCounts()) {
      for (const uint16_t count : CountsOf(ids, request.prompt.size())) {
        draw = FakeMix(draw, count);
      }
    }
    for (const TokenBias& bias : request.logit_bias) draw = FakeMix(draw, bias.token);
    uint64_t token = draw % kTinyVocab;
    if (drawn < request.sampling.min_tokens) {
      while (stops(static_cast<int32_t>(token))) token = (token + 1) % kTinyVocab;
    }
    ids.push_back(static_cast<int32_t>(token));
    expected.ids.push_back(ids.back());
    expected.logprobs.push_back(LogprobOf(hash, ids.back()));
    if (stops(ids.back())) {
      expected.reason = FinishReason::kStop;
      expected.stop_id = ids.back();
      return expected;
    }
  }
  return expected;
}

void ExpectExact(EngineRig& rig, const Client& client, const std::vector<int32_t>& windows) {
  for (int32_t i = 0; i < client.request.n; ++i) {
    const ExpectedOutput expected = Expect(client.request, i, windows, rig.info().max_model_len);
    EXPECT_EQ(client.outputs[i].Ids(), expected.ids);
    EXPECT_EQ(client.outputs[i].finish().reason, expected.reason);
  }
}

std::vector<float> ExpectScores(const Request& request, const std::vector<int32_t>& windows) {
  std::vector<float> scores;
  for (size_t i = 1; i < request.prompt.size(); ++i) {
    scores.push_back(LogprobOf(HashOf(request.prompt, i, windows), request.prompt[i]));
  }
  return scores;
}

}  // namespace baram::testing
