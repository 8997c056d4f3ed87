// Stats: everything the engine counts, as relaxed atomics: written by the engine thread, except for
// `accepted` and `refused`, and read by any thread at any time. Histograms are arrays of counters
// over fixed bounds.
#ifndef BARAM_ENGINE_STATS_H_
#define BARAM_ENGINE_STATS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/finish.h"

namespace baram {

class Counter {
 public:
  // From any thread. A read-modify-write, which costs more than a store: better once per step than
  // once per token.
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void Set(double v) { value_.store(v, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

// Counts observations per bucket, up to and including its bound, and their sum. Observe is
// lock-free; one writer.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds);
  void Observe(double value);
  std::span<const double> bounds() const { return bounds_; }
  // Observations in bucket i (not cumulative); i == bounds().size() is the overflow.
  uint64_t bucket(size_t i) const { return buckets_[i].load(std::memory_order_relaxed); }
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::vector<double> bounds_;
  std::vector<std::atomic<uint64_t>> buckets_;
  std::atomic<double> sum_{0};
};

// Upper bounds of a histogram's buckets; in seconds unless stated otherwise.
std::span<const double> TtftBounds();
std::span<const double> TokenTimeBounds();
std::span<const double> RequestTimeBounds();
std::vector<double> TokenCountBounds(int64_t max);  // 1 2 5 10 20 50 ..., none above max

struct Stats {
  explicit Stats(int32_t max_model_len, int32_t max_step_tokens);

  Gauge running, waiting, paused;
  // Waiting sequences that more slots and pages would not help: they wait for their prompt, which
  // another output of their request computes, or for their reader.
  Gauge deferred;
  Gauge kv_pages_used, kv_pages_cached, kv_pages_total;
  Counter preemptions;
  // Counted when a prompt has been computed: prompt_tokens is the sum of the other two.
  Counter prompt_tokens, computed_prompt_tokens, cached_prompt_tokens;
  Counter generated_tokens;
  Counter prefix_queries, prefix_hits;  // tokens looked up and found
  Counter steps;
  Counter device_busy_ns;  // of the device in steps, see StepTime
  Counter device_gap_ns;   // between a step and the next, if issued before the first had ended
  Counter nonfinite_rows;
  std::array<Counter, kFinishReasons> finished;  // requests, by the worst end of their outputs
  Counter accepted, refused;                     // by Submit
  Histogram ttft, inter_token, queue_time, step_tokens, step_time;
  // Of outputs that ended by themselves (EndedByItself).
  Histogram generation_length, time_per_output_token;
  // Of requests whose outputs all did: durations; the prompt, and what of it was not cached; n and
  // max_tokens; the longest output.
  Histogram e2e, prefill_time, decode_time, inference_time;
  Histogram prompt_length, computed_prompt, asked_outputs, asked_tokens, longest_output;
};

}  // namespace baram

#endif  // BARAM_ENGINE_STATS_H_
