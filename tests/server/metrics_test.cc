// Every number of the engine is exported under its own name.
#include "server/metrics.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <future>
#include <string>
#include <thread>
#include <utility>

#include "server/text_pool.h"

namespace baram::server {
namespace {

constexpr char kLabels[] = "{model_name=\"tiny\",engine=\"0\"";

// The value on the line that begins with `name` and the labels; -1 if there is none.
double Value(const std::string& text, const std::string& name, const std::string& more = "") {
  const std::string start = "\nbaram_" + name + kLabels + more + "} ";
  const size_t at = text.find(start);
  return at == std::string::npos ? -1 : std::stod(text.substr(at + start.size()));
}

double UnixTime() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}
const double loaded_at = UnixTime();

// All are different, so that a wrong member shows.
TEST(MetricsTest, EveryNumberHasItsName) {
  const EngineInfo info;
  Stats stats(1000, 1000);
  int next = 2;
  const std::pair<const char*, Gauge*> gauges[] = {
      {"num_requests_running", &stats.running},
      {"num_requests_paused", &stats.paused},
  };
  const std::pair<const char*, Counter*> counters[] = {
      {"num_preemptions_total", &stats.preemptions},
      {"prompt_tokens_total", &stats.prompt_tokens},
      {"prompt_tokens_cached_total", &stats.cached_prompt_tokens},
      {"generation_tokens_total", &stats.generated_tokens},
      {"prefix_cache_queries_total", &stats.prefix_queries},
      {"prefix_cache_hits_total", &stats.prefix_hits},
      {"engine_steps_total", &stats.steps},
      {"corrupted_requests_total", &stats.nonfinite_rows},
      {"requests_accepted_total", &stats.accepted},
      {"requests_refused_total", &stats.refused},
  };
  const std::pair<const char*, Histogram*> histograms[] = {
      {"time_to_first_token_seconds", &stats.ttft},
      {"inter_token_latency_seconds", &stats.inter_token},
      {"request_time_per_output_token_seconds", &stats.time_per_output_token},
      {"e2e_request_latency_seconds", &stats.e2e},
      {"request_queue_time_seconds", &stats.queue_time},
      {"request_prefill_time_seconds", &stats.prefill_time},
      {"request_decode_time_seconds", &stats.decode_time},
      {"request_inference_time_seconds", &stats.inference_time},
      {"request_prompt_tokens", &stats.prompt_length},
      {"request_generation_tokens", &stats.generation_length},
      {"request_max_num_generation_tokens", &stats.longest_output},
      {"request_params_n", &stats.asked_outputs},
      {"request_params_max_tokens", &stats.asked_tokens},
      {"request_prefill_kv_computed_tokens", &stats.computed_prompt},
      {"iteration_tokens_total", &stats.step_tokens},
      {"step_time_seconds", &stats.step_time},
  };
  constexpr std::array<const char*, kFinishReasons> kReasons = {
      "stop", "length", "abort", "deadline", "drained", "slow_reader", "error"};
  for (const auto& [name, gauge] : gauges) gauge->Set(next++);
  for (const auto& [name, counter] : counters) counter->Add(next++);
  for (const auto& [name, histogram] : histograms) histogram->Observe(next++);
  for (Counter& counter : stats.finished) counter.Add(next++);
  stats.computed_prompt_tokens.Add(next++);
  stats.waiting.Set(30);
  stats.deferred.Set(12);
  stats.kv_pages_total.Set(100);
  stats.kv_pages_used.Set(25);
  stats.kv_pages_cached.Set(60);
  stats.device_busy_ns.Add(3'000'000'000);
  stats.device_gap_ns.Add(7'000'000'000);

  TextPool texts(/*threads=*/1, /*max_queued=*/8);
  std::promise<void> held;
  const auto wait = [go = held.get_future().share()] { go.wait(); };
  constexpr auto kNever = std::chrono::steady_clock::time_point::max();
  ASSERT_TRUE(texts.Run(0, kNever, wait));
  while (texts.waiting() > 0) std::this_thread::yield();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(texts.Run(0, kNever, wait));
  Metrics metrics(info, stats, texts, "tiny");
  metrics.AddListener("grpc", 60, [] { return 41; });
  metrics.AddListener("http", 61, [] { return 42; });
  const std::string text = metrics.Text();
  const auto value = [&](const std::string& name, const std::string& more = "") {
    return Value(text, name, more);
  };
  for (const auto& [name, gauge] : gauges) EXPECT_EQ(value(name), gauge->value()) << name;
  for (const auto& [name, counter] : counters) {
    EXPECT_EQ(value(name), static_cast<double>(counter->value())) << name;
  }
  for (const auto& [name, histogram] : histograms) {
    EXPECT_EQ(value(name + std::string("_sum")), histogram->sum()) << name;
    EXPECT_EQ(value(name + std::string("_count")), 1) << name;
  }
  for (size_t i = 0; i < kReasons.size(); ++i) {
    const std::string label = ",finished_reason=\"" + std::string(kReasons[i]) + '"';
    EXPECT_EQ(value("request_success_total", label), static_cast<double>(stats.finished[i].value()))
        << kReasons[i];
  }
  const std::string sources = "prompt_tokens_by_source_total";
  EXPECT_EQ(value(sources, ",source=\"local_compute\""),
            static_cast<double>(stats.computed_prompt_tokens.value()));
  EXPECT_EQ(value(sources, ",source=\"local_cache_hit\""),
            static_cast<double>(stats.cached_prompt_tokens.value()));
  EXPECT_EQ(value("num_requests_waiting"), 30);
  EXPECT_EQ(value("num_requests_waiting_by_reason", ",reason=\"capacity\""), 18);
  EXPECT_EQ(value("num_requests_waiting_by_reason", ",reason=\"deferred\""), 12);
  EXPECT_EQ(value("num_texts_waiting"), 3);
  EXPECT_EQ(value("connections", ",listener=\"grpc\""), 41);
  EXPECT_EQ(value("connections", ",listener=\"http\""), 42);
  EXPECT_EQ(value("connections_max", ",listener=\"grpc\""), 60);
  EXPECT_EQ(value("connections_max", ",listener=\"http\""), 61);
  held.set_value();
  EXPECT_EQ(value("kv_cache_usage_perc"), 0.25);
  EXPECT_EQ(value("kv_cache_cached_perc"), 0.6);
  EXPECT_DOUBLE_EQ(value("device_busy_seconds_total"), 3);
  EXPECT_DOUBLE_EQ(value("device_gap_seconds_total"), 7);
}

// A bucket counts what is at or below its bound; the last one counts everything.
TEST(MetricsTest, BucketsAddUp) {
  const EngineInfo info;
  Stats stats(1000, 1000);
  for (const double seconds : {0.001, 0.3, 0.3, 1e6}) stats.ttft.Observe(seconds);
  const TextPool texts(/*threads=*/1, /*max_queued=*/8);
  const std::string text = Metrics(info, stats, texts, "tiny").Text();
  const auto bucket = [&](const std::string& bound) {
    return Value(text, "time_to_first_token_seconds_bucket", ",le=\"" + bound + '"');
  };
  EXPECT_EQ(bucket("0.001"), 1);
  EXPECT_EQ(bucket("0.25"), 1);
  EXPECT_EQ(bucket("0.5"), 3);
  EXPECT_EQ(bucket("2560"), 3);
  EXPECT_EQ(bucket("+Inf"), 4);
  EXPECT_EQ(Value(text, "time_to_first_token_seconds_count"), 4);
}

// The system's statistics about this process, without labels.
class ProcessMetricsTest : public ::testing::Test {
 protected:
  double Value(const std::string& name) const {
    const std::string text = metrics_.Text();
    const std::string start = "\nprocess_" + name + " ";
    const size_t at = text.find(start);
    return at == std::string::npos ? -1 : std::stod(text.substr(at + start.size()));
  }

  const EngineInfo info_;
  const Stats stats_{1, 1};
  const TextPool texts_{/*threads=*/1, /*max_queued=*/1};
  const Metrics metrics_{info_, stats_, texts_, "tiny"};
};

TEST_F(ProcessMetricsTest, TheStartIsThatOfTheProcess) {
  const double start = Value("start_time_seconds");
  EXPECT_LE(start, loaded_at);
  EXPECT_GE(start, loaded_at - 3600);
  EXPECT_EQ(server::Value(metrics_.Text(), "start_time_seconds"), start);
}

TEST_F(ProcessMetricsTest, MemoryAndTimeAreThere) {
  EXPECT_GT(Value("resident_memory_bytes"), 1 << 20);
  EXPECT_GT(Value("virtual_memory_bytes"), Value("resident_memory_bytes"));
  const double before = Value("cpu_seconds_total");
  EXPECT_GT(before, 0);
  while (Value("cpu_seconds_total") < before + 0.01) {
  }
}

TEST_F(ProcessMetricsTest, DescriptorsAreCounted) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(Value("max_fds"), static_cast<double>(limit.rlim_cur));
  const double before = Value("open_fds");
  EXPECT_GE(before, 3);
  const int file = open("/dev/null", O_RDONLY);
  EXPECT_EQ(Value("open_fds"), before + 1);
  // If none is left to look with, all are in use.
  const rlim_t all = limit.rlim_cur;
  limit.rlim_cur = static_cast<rlim_t>(file) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(Value("open_fds"), file + 1);
  EXPECT_EQ(Value("max_fds"), file + 1);
  limit.rlim_cur = all;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  close(file);
}

}  // namespace
}  // namespace baram::server
