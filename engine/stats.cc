// Stats: histograms and their bounds.
#include "engine/stats.h"

#include <algorithm>

#include "kernels/check.h"

namespace baram {
namespace {

// In seconds. The same as vLLM's, so that its dashboards work; those of token times have finer
// bounds below 10 ms.
constexpr double kTtft[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                            1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
constexpr double kTokenTime[] = {0.0005, 0.001, 0.002, 0.004, 0.008, 0.01, 0.025, 0.05,
                                 0.075,  0.1,   0.15,  0.2,   0.3,   0.4,  0.5,   0.75,
                                 1,      2.5,   5,     7.5,   10,    20,   40,    80};
constexpr double kRequestTime[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                   30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
constexpr double kOutputs[] = {1, 2, 5, 10, 20};

}  // namespace

Histogram::Histogram(std::span<const double> bounds)
    : bounds_(bounds.begin(), bounds.end()), buckets_(bounds.size() + 1) {
  Check(std::is_sorted(bounds_.begin(), bounds_.end()), "histogram bounds ascend");
}

void Histogram::Observe(double value) {
  const size_t at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  // There is one writer, so no read-modify-write is needed, which would wait for all earlier
  // stores.
  buckets_[at].store(buckets_[at].load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

std::span<const double> TtftBounds() { return kTtft; }
std::span<const double> TokenTimeBounds() { return kTokenTime; }
std::span<const double> RequestTimeBounds() { return kRequestTime; }

std::vector<double> TokenCountBounds(int64_t max) {
  std::vector<double> bounds;
  for (int64_t decade = 1;; decade *= 10) {
    for (const int64_t step : {1, 2, 5}) {
      if (step * decade > max) return bounds;
      bounds.push_back(static_cast<double>(step * decade));
    }
  }
}

Stats::Stats(int32_t max_model_len, int32_t max_step_tokens)
    : ttft(TtftBounds()),
      inter_token(TokenTimeBounds()),
      queue_time(RequestTimeBounds()),
      step_tokens(TokenCountBounds(max_step_tokens)),
      step_time(TokenTimeBounds()),
      generation_length(TokenCountBounds(max_model_len)),
      time_per_output_token(TokenTimeBounds()),
      e2e(RequestTimeBounds()),
      prefill_time(RequestTimeBounds()),
      decode_time(RequestTimeBounds()),
      inference_time(RequestTimeBounds()),
      prompt_length(TokenCountBounds(max_model_len)),
      computed_prompt(TokenCountBounds(max_model_len)),
      asked_outputs(kOutputs),
      asked_tokens(TokenCountBounds(max_model_len)),
      longest_output(TokenCountBounds(max_model_len)) {}

}  // namespace baram
