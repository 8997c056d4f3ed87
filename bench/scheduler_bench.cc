// scheduler_bench: what a step costs the host, whatever the device: intake, plan, commit, delivery.
//
//   scheduler_bench --batches 32,256,1024 --queued 0 --context 1024 --steps 512 --json FILE
//   scheduler_bench --cancelled 4        in each step, as many arrive in their place
//   scheduler_bench --urgent 1           arrive in each step, and take a slot for two tokens
//
// The engine's own loop with two steps in flight on one thread. A stand-in for the device finishes
// at once: every row draws a token that doesn't end it. The reader that empties the outboxes in
// between is not timed, nor is a client that submits and cancels. --queued requests wait in
// addition to those that run. Times are the thread's processor time, so that other tenants of the
// machine count less. Contexts differ, so that steps in which pages are allocated and published are
// spread as in a real server.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/flags.h"
#include "bench/replace_file.h"
#include "engine/core.h"
#include "engine/loaded_model.h"
#include "engine/open.h"
#include "kernels/check.h"
#include "kernels/fake/fake_device.h"

namespace baram::bench {
namespace {

constexpr int32_t kVocabulary = 1 << 17;
constexpr int32_t kPageTokens = 16;

struct Options {
  std::vector<int32_t> batches = {32, 256, 1024};
  int32_t context = 1024;  // tokens of the longest prompt; the shortest has half
  int32_t queued = 0;
  int32_t cancelled = 0, urgent = 0;  // a step
  int32_t steps = 512;

  int32_t arrivals() const { return cancelled + urgent; }  // a step
  std::string json;
};

// Two groups of layers, as in a model with windows.
ModelSpec Spec(int32_t max_positions) {
  ModelSpec spec;
  spec.architecture = spec.family = "None";
  spec.hidden = 16;
  spec.vocab_size = kVocabulary;
  spec.max_positions = max_positions;
  spec.head = {.heads = 1, .kv_heads = 1, .head_dim = 8};
  spec.ropes = {{.rotary_dim = 8}};
  spec.tied_lm_head = true;
  for (const int32_t window : {0, 512})
    spec.layers.push_back({.window = window, .attention_scale = 0.35f, .ffn = 16});
  return spec;
}

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Measurement {
  int32_t batch = 0;
  double p50_s = 0;  // per step
  double p99_s = 0;
};

class Bench {
 public:
  Bench(const Options& options, int32_t batch) : options_(options), batch_(batch) {
    EngineConfig config;
    config.max_num_seqs = batch;
    config.max_num_batched_tokens = config.mixed_step_tokens = std::max(batch, 8192);
    config.max_queued_requests = batch + options.queued + 1 + 8 * options.arrivals();
    config.max_queued_tokens = int64_t{config.max_queued_requests} * options.context;
    // Prompts are computed before the measured steps; only urgent sequences end during these.
    most_tokens_ = options.steps + 8 + 2 * (batch * options.context / 8192 + 1);
    config.max_model_len = options.context + most_tokens_;
    config.kv_cache_bytes = int64_t{1} << 30;
    auto model = OpenRandomModel(
        config, Spec(config.max_model_len),
        std::make_unique<FakeDevice>(FakeOptions{.planning_depth = 2, .page_tokens = kPageTokens}),
        /*seed=*/1);
    Check(model.ok(), model.status().ToString().c_str());
    core_ = std::make_unique<EngineCore>(config, **model);
    for (int32_t i = 0; i < batch + options.queued; ++i) {
      Submit(options.context / 2 + i * 37 % (options.context / 2), most_tokens_, /*priority=*/0);
    }
  }

  Measurement Measure() {
    std::vector<double> steps;
    bool caught_up = false;
    while (std::ssize(steps) < options_.steps) {
      if (caught_up) ComeAndGo();
      const double begin = ThreadSeconds();
      Turn();
      const double end = ThreadSeconds();
      const bool full = last_outputs_ == batch_;
      if (full || (caught_up && options_.arrivals() > 0)) steps.push_back(end - begin);
      caught_up = caught_up || full;
      Read();
    }
    std::ranges::sort(steps);
    return {batch_, steps[steps.size() / 2], steps[steps.size() * 99 / 100]};
  }

 private:
  void Submit(int32_t prompt, int32_t max_tokens, int32_t priority) {
    Request request;
    request.id = std::to_string(submitted_);
    for (int32_t i = 0; i < prompt; ++i) {
      request.prompt.push_back(static_cast<int32_t>(random_() % kVocabulary));
    }
    request.max_tokens = max_tokens;
    request.priority = priority;
    auto outbox = core_->Submit(std::move(request));
    Check(outbox.ok(), outbox.status().ToString().c_str());
    ++submitted_;
    if (priority == 0) cancellable_.push_back(*std::move(outbox));
  }

  // What clients do in each step: they cancel the oldest requests that are not urgent.
  void ComeAndGo() {
    for (int32_t i = 0; i < options_.cancelled; ++i) {
      cancellable_[next_cancelled_++]->Cancel();
      Submit(kPageTokens, most_tokens_, /*priority=*/0);
    }
    for (int32_t i = 0; i < options_.urgent; ++i) {
      Submit(kPageTokens, /*max_tokens=*/2, /*priority=*/-1);
    }
  }

  // Plans step n + 1, then commits step n.
  void Turn() {
    core_->Turn(std::chrono::steady_clock::now, [this](Batch* batch) {
      Check(batch != nullptr, "there is work");
      last_outputs_ = batch->outputs();
      for (int32_t i = 0; i < last_outputs_; ++i) batch->results[i].token = i + 1;
      return std::exchange(in_flight_, batch);
    });
  }

  void Read() {
    taken_.clear();
    core_->touched().Take(&taken_, SteadyTime{});
    TokenResult token;
    for (const auto& outbox : taken_) {
      while (outbox->Pop(0, &token)) continue;
    }
  }

  const Options& options_;
  const int32_t batch_;
  int32_t most_tokens_ = 0;
  std::mt19937 random_{1};
  std::unique_ptr<EngineCore> core_;
  Batch* in_flight_ = nullptr;
  int32_t last_outputs_ = 0;
  int64_t submitted_ = 0;
  size_t next_cancelled_ = 0;
  std::vector<std::shared_ptr<Outbox>> cancellable_, taken_;
};

int Main(int argc, char** argv) {
  Options options;
  if (!ParseFlags("scheduler_bench", argc, argv,
                  {{"--batches", [&](const std::string& v) { options.batches = ParseList(v); }},
                   {"--queued", [&](const std::string& v) { options.queued = std::stoi(v); }},
                   {"--cancelled", [&](const std::string& v) { options.cancelled = std::stoi(v); }},
                   {"--urgent", [&](const std::string& v) { options.urgent = std::stoi(v); }},
                   {"--context", [&](const std::string& v) { options.context = std::stoi(v); }},
                   {"--steps", [&](const std::string& v) { options.steps = std::stoi(v); }},
                   {"--json", [&](const std::string& v) { options.json = v; }}})) {
    return EXIT_FAILURE;
  }
  if (options.context < 2 || options.batches.empty() || std::ranges::min(options.batches) < 1 ||
      options.steps < 1 || std::min({options.queued, options.cancelled, options.urgent}) < 0) {
    std::fprintf(
        stderr,
        "scheduler_bench: --context is at least 2, --batches and --steps 1, the others 0\n");
    return EXIT_FAILURE;
  }
  std::vector<Measurement> measurements;
  std::printf("%-10s %10s %10s %12s\n", "sequences", "p50 us", "p99 us", "p50 ns a row");
  for (const int32_t batch : options.batches) {
    const Measurement m = Bench(options, batch).Measure();
    std::printf("%-10d %10.1f %10.1f %12.1f\n", batch, m.p50_s * 1e6, m.p99_s * 1e6,
                m.p50_s * 1e9 / batch);
    measurements.push_back(m);
  }
  if (options.json.empty()) return EXIT_SUCCESS;
  const bool written = ReplaceFile(options.json, [&](std::FILE* file) {
    std::fprintf(file,
                 "{\n \"context\": %d, \"queued\": %d, \"cancelled\": %d, \"urgent\": %d,\n"
                 " \"measurements\": [",
                 options.context, options.queued, options.cancelled, options.urgent);
    const char* comma = "";
    for (const Measurement& m : measurements) {
      std::fprintf(file, "%s\n  {\"sequences\": %d, \"p50_s\": %.4g, \"p99_s\": %.4g}", comma,
                   m.batch, m.p50_s, m.p99_s);
      comma = ",";
    }
    std::fprintf(file, "\n ]\n}\n");
  });
  if (written) return EXIT_SUCCESS;
  std::fprintf(stderr, "scheduler_bench: %s can't be written\n", options.json.c_str());
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace baram::bench

int main(int argc, char** argv) { return baram::bench::Main(argc, argv); }
