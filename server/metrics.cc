// Metrics: tables of the engine statistics that are exported, and computed metrics.
#include "server/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/log.h"
#include "server/process_metrics.h"
#include "server/text_pool.h"
#include "server/version.h"

namespace baram::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Label = ClientMetric::Label;

constexpr char kPrefix[] = "baram_";

// `member` is a Gauge, Counter or Histogram of Stats.
template <typename T>
struct Row {
  const char* name;
  const char* help;
  T Stats::*member;
};

constexpr Row<Gauge> kGauges[] = {
    {"num_requests_running", "Outputs in the batch; a request has n.", &Stats::running},
    {"num_requests_waiting", "Outputs that wait to run: queued, or preempted.", &Stats::waiting},
    {"num_requests_paused", "Outputs whose reader is behind.", &Stats::paused},
};

constexpr Row<Counter> kCounters[] = {
    {"num_preemptions_total", "Outputs that gave up their pages and were recomputed.",
     &Stats::preemptions},
    {"prompt_tokens_total", "Prompt tokens computed or found in the cache.", &Stats::prompt_tokens},
    {"prompt_tokens_cached_total", "Prompt tokens whose KV came from the prefix cache.",
     &Stats::cached_prompt_tokens},
    {"generation_tokens_total", "Tokens drawn.", &Stats::generated_tokens},
    {"prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
     &Stats::prefix_queries},
    {"prefix_cache_hits_total", "Prompt tokens found there.", &Stats::prefix_hits},
    {"engine_steps_total", "Steps of the engine.", &Stats::steps},
    {"corrupted_requests_total", "Rows of logits that held a NaN or an infinity.",
     &Stats::nonfinite_rows},
    {"requests_accepted_total", "Requests the engine took.", &Stats::accepted},
    {"requests_refused_total", "Requests the engine refused at submission.", &Stats::refused},
};

// Counted in nanoseconds.
constexpr Row<Counter> kSeconds[] = {
    {"device_busy_seconds_total", "Time that the device spent in steps.", &Stats::device_busy_ns},
    {"device_gap_seconds_total",
     "Time that a GPU with a step in flight and one to come spent between the two, the upload "
     "of the second included: what its host made it wait.",
     &Stats::device_gap_ns},
};

constexpr Row<Histogram> kHistograms[] = {
    {"time_to_first_token_seconds", "From a request's arrival to its first token.", &Stats::ttft},
    {"inter_token_latency_seconds", "Between two tokens of an output.", &Stats::inter_token},
    {"request_time_per_output_token_seconds",
     "Decoding time of an output, by its tokens after the first.", &Stats::time_per_output_token},
    {"e2e_request_latency_seconds",
     "From a request's arrival to the end of its last output. This and what follows by request is "
     "of those that ended with stop or length.",
     &Stats::e2e},
    {"request_queue_time_seconds",
     "From a request's arrival at the engine, tokenized, to the admission of its first output.",
     &Stats::queue_time},
    {"request_prefill_time_seconds", "From admission to the first token.", &Stats::prefill_time},
    {"request_decode_time_seconds", "From a request's first token to its last.",
     &Stats::decode_time},
    {"request_inference_time_seconds", "From admission to the last token.", &Stats::inference_time},
    {"request_prompt_tokens", "Prompt tokens of a request.", &Stats::prompt_length},
    {"request_generation_tokens", "Tokens drawn for an output.", &Stats::generation_length},
    {"request_max_num_generation_tokens", "Tokens of a request's longest output.",
     &Stats::longest_output},
    {"request_params_n", "Outputs a request asked for.", &Stats::asked_outputs},
    {"request_params_max_tokens", "max_tokens of a request, or what its context left.",
     &Stats::asked_tokens},
    {"request_prefill_kv_computed_tokens", "Prompt tokens of a request that were not cached.",
     &Stats::computed_prompt},
    {"iteration_tokens_total", "Tokens of a step.", &Stats::step_tokens},
    {"step_time_seconds", "Duration of a step.", &Stats::step_time},
};

// FinishReason's values, under vLLM's names where it has them.
constexpr const char* kFinishNames[kFinishReasons] = {"stop",    "length",      "abort", "deadline",
                                                      "drained", "slow_reader", "error"};

// A series that appears with its first event hides that event from increase(): the outcomes that
// alerts use exist from the start, for the calls that generate.
constexpr const char* kGrpcMethods[] = {"Generate", "GenerateOnce"};
constexpr const char* kHttpRoutes[] = {"/v1/chat/completions", "/v1/completions"};
struct KnownEnd {
  const char* grpc_code;
  const char* http_code;
  const char* reason;
};
constexpr KnownEnd kKnownEnds[] = {
    {"OK", "200", "stop"},
    {"OK", "200", "length"},
    {"INVALID_ARGUMENT", "400", "INVALID_FIELD"},
    {"RESOURCE_EXHAUSTED", "429", "SERVER_OVERLOADED"},
    {"RESOURCE_EXHAUSTED", "408", "SLOW_READER"},
    {"CANCELLED", "499", ""},
    {"DEADLINE_EXCEEDED", "504", ""},
    {"UNAVAILABLE", "503", "DRAINING"},
    {"UNAVAILABLE", "503", "DEVICE_LOST"},
    {"INTERNAL", "500", "INTERNAL"},
};

}  // namespace

class Metrics::Exposition {
 public:
  explicit Exposition(std::vector<Label> labels) : labels_(std::move(labels)) {}

  ClientMetric& Add(const char* name, const char* help, MetricType type,
                    const std::vector<Label>& more = {}) {
    const std::string full = absl::StrCat(kPrefix, name);
    if (families_.empty() || families_.back().name != full) {
      MetricFamily family;
      family.name = full;
      family.help = help;
      family.type = type;
      families_.push_back(std::move(family));
    }
    ClientMetric& metric = families_.back().metric.emplace_back();
    metric.label = labels_;
    metric.label.insert(metric.label.end(), more.begin(), more.end());
    return metric;
  }
  void AddGauge(const char* name, const char* help, double value,
                const std::vector<Label>& more = {}) {
    Add(name, help, MetricType::Gauge, more).gauge.value = value;
  }
  void AddCounter(const char* name, const char* help, double value,
                  const std::vector<Label>& more = {}) {
    Add(name, help, MetricType::Counter, more).counter.value = value;
  }
  void AddHistogram(const char* name, const char* help, const Histogram& histogram) {
    ClientMetric& metric = Add(name, help, MetricType::Histogram);
    const auto bounds = histogram.bounds();
    uint64_t below = 0;
    for (size_t i = 0; i < bounds.size(); ++i) {
      below += histogram.bucket(i);
      metric.histogram.bucket.push_back({below, bounds[i]});
    }
    below += histogram.bucket(bounds.size());
    metric.histogram.sample_count = below;
    metric.histogram.sample_sum = histogram.sum();
  }

  std::vector<MetricFamily> Take() { return std::move(families_); }

 private:
  const std::vector<Label> labels_;
  std::vector<MetricFamily> families_;
};

Metrics::Metrics(const EngineInfo& info, const Stats& stats, const TextPool& texts,
                 std::string model_name)
    : info_(info),
      stats_(stats),
      texts_(texts),
      model_name_(std::move(model_name)),
      start_time_s_(ProcessStartTime()) {
  for (const KnownEnd& end : kKnownEnds) {
    for (const char* method : kGrpcMethods) calls_[{method, end.grpc_code, end.reason}];
    for (const char* route : kHttpRoutes) calls_[{route, end.http_code, end.reason}];
  }
  calls_[{"grpc", "UNAVAILABLE", kTooManyConnections}];
  calls_[{"http", "503", kTooManyConnections}];
  for (const char* limit : kLimits) overloads_[limit];
}

Metrics::~Metrics() = default;

void Metrics::CountOverload(std::string_view limit) {
  std::lock_guard lock(mutex_);
  ++overloads_[std::string(limit)];
}

void Metrics::CountCall(std::string_view method, std::string_view code, std::string_view reason) {
  std::lock_guard lock(mutex_);
  ++calls_[{std::string(method), std::string(code), std::string(reason)}];
}

void Metrics::ForgetListeners() {
  std::lock_guard lock(mutex_);
  listeners_.clear();
}

void Metrics::AddListener(std::string listener, int64_t most, std::function<int64_t()> open) {
  std::lock_guard lock(mutex_);
  listeners_.push_back({std::move(listener), most, std::move(open)});
}

void Metrics::AddEngine(Exposition& out) const {
  for (const auto& row : kGauges) out.AddGauge(row.name, row.help, (stats_.*row.member).value());
  // The distinction vLLM makes. The sum equals num_requests_waiting, except for a step between the
  // two reads.
  const double deferred = stats_.deferred.value();
  for (const auto& [reason, value] :
       {std::pair("capacity", std::max(0.0, stats_.waiting.value() - deferred)),
        std::pair("deferred", deferred)}) {
    out.AddGauge(
        "num_requests_waiting_by_reason",
        "Of num_requests_waiting: for a slot or pages (capacity); for a prompt that another "
        "output computes, or a reader (deferred).",
        value, {{"reason", reason}});
  }
  out.AddGauge("num_texts_waiting",
               "Texts that wait to be tokenized or rendered, which the engine does not know yet.",
               static_cast<double>(texts_.waiting()));
  const double pages = stats_.kv_pages_total.value();
  out.AddGauge("kv_cache_usage_perc", "Share of the KV pages that running sequences hold, 0 to 1.",
               pages > 0 ? stats_.kv_pages_used.value() / pages : 0);
  out.AddGauge("kv_cache_cached_perc", "Share of the KV pages that only the prefix cache holds.",
               pages > 0 ? stats_.kv_pages_cached.value() / pages : 0);
  for (const auto& row : kCounters) {
    out.AddCounter(row.name, row.help, static_cast<double>((stats_.*row.member).value()));
  }
  for (const auto& row : kSeconds) {
    out.AddCounter(row.name, row.help, static_cast<double>((stats_.*row.member).value()) * 1e-9);
  }
  for (const auto& [source, counter] :
       {std::pair("local_compute", &stats_.computed_prompt_tokens),
        std::pair("local_cache_hit", &stats_.cached_prompt_tokens)}) {
    out.AddCounter("prompt_tokens_by_source_total", "prompt_tokens_total by where they came from.",
                   counter->value(), {{"source", source}});
  }
  for (int i = 0; i < kFinishReasons; ++i) {
    out.AddCounter(
        "request_success_total",
        "Requests by the worst end of their outputs. A stop string that the last allowed "
        "token completes counts as length.",
        static_cast<double>(stats_.finished[i].value()), {{"finished_reason", kFinishNames[i]}});
  }
}

void Metrics::AddCalls(Exposition& out) const {
  std::lock_guard lock(mutex_);
  for (const auto& [key, count] : calls_) {
    const auto& [method, code, reason] = key;
    out.AddCounter("requests_total", "Calls of the front ends by method, code and reason.",
                   static_cast<double>(count),
                   {{"method", method}, {"code", code}, {"reason", reason}});
  }
  for (const auto& [limit, count] : overloads_) {
    out.AddCounter(
        "requests_overloaded_total",
        "Calls refused or ended as SERVER_OVERLOADED, by the setting whose limit was reached.",
        static_cast<double>(count), {{"limit", limit}});
  }
  for (const Listener& listener : listeners_) {
    out.AddGauge("connections", "Connections that are open, by listener.",
                 static_cast<double>(listener.open()), {{"listener", listener.name}});
  }
  for (const Listener& listener : listeners_) {
    out.AddGauge("connections_max", "Connections above which further ones are refused.",
                 static_cast<double>(listener.most), {{"listener", listener.name}});
  }
}

void Metrics::AddFacts(Exposition& out) const {
  out.AddGauge("cache_config_info", "Facts of the KV cache as labels.", 1,
               {{"block_size", absl::StrCat(info_.page_tokens)},
                {"num_gpu_blocks", absl::StrCat(info_.pages)},
                {"block_bytes", absl::StrCat(info_.page_bytes)},
                {"enable_prefix_caching", info_.prefix_cache ? "True" : "False"}});
  out.AddGauge("model_info", "Facts of the model as labels.", 1,
               {{"architecture", info_.architecture},
                {"max_model_len", absl::StrCat(info_.max_model_len)},
                {"parameters", absl::StrCat(info_.parameters)},
                {"weight_bytes", absl::StrCat(info_.weight_bytes)},
                {"device", info_.device},
                {"isa", info_.isa}});
  out.AddGauge("build_info", "The version as a label.", 1, {{"version", kVersion}});
  out.AddGauge("start_time_seconds", "Unix time at which the server's process began.",
               start_time_s_);
}

std::vector<MetricFamily> Metrics::Collect() const {
  // One process is one engine: the label is for dashboards that aggregate by it.
  Exposition out({{"model_name", model_name_}, {"engine", "0"}});
  AddEngine(out);
  AddCalls(out);
  out.AddCounter("log_lines_lost_total",
                 "Lines of the log that nobody read in time, or that could not be written.",
                 static_cast<double>(LostLogLines()));
  for (const auto& row : kHistograms) out.AddHistogram(row.name, row.help, stats_.*row.member);
  AddFacts(out);
  std::vector<MetricFamily> families = out.Take();
  std::ranges::move(ProcessMetrics(start_time_s_), std::back_inserter(families));
  return families;
}

std::string Metrics::Text() const { return prometheus::TextSerializer().Serialize(Collect()); }

}  // namespace baram::server
