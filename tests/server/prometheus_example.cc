// Metrics of every kind as text. Compiled twice: with prometheus-cpp's library, and with its
// replacement in static builds, whose namespace is renamed.
#include <prometheus/text_serializer.h>

#include <limits>
#include <string>
#include <vector>

// RENDER is the name of this copy of the function.
std::string RENDER() {
  using prometheus::ClientMetric;
  using prometheus::MetricFamily;
  using prometheus::MetricType;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<MetricFamily> families;
  const auto add = [&](const char* name, const char* help, MetricType type) -> ClientMetric& {
    families.push_back({name, help, type, std::vector<ClientMetric>(1)});
    return families.back().metric[0];
  };
  for (const double value : {0.0, 1.0, -2.5, 0.1, 1e21, 1.0 / 3, 123456789012.0, kInfinity,
                             -kInfinity, std::numeric_limits<double>::quiet_NaN()}) {
    add("a_gauge", "Has a \"help\" and a \\.", MetricType::Gauge).gauge.value = value;
    add("a_counter_total", "", MetricType::Counter).counter.value = value;
    add("untyped", "x", MetricType::Untyped).untyped.value = value;
  }
  ClientMetric& labelled = add("labelled", "Two labels.", MetricType::Counter);
  labelled.label = {{"name", "바람 \"q\" \\ \n end"}, {"empty", ""}};
  labelled.timestamp_ms = 1234567890123;
  families.back().metric.push_back({});
  for (const double last : {2.5, kInfinity}) {
    ClientMetric& histogram = add("seconds", "A histogram.", MetricType::Histogram);
    histogram.label = {{"model_name", "m"}};
    histogram.histogram.sample_count = 7;
    histogram.histogram.sample_sum = 3.7;
    histogram.histogram.bucket = {{1, 0.001}, {5, 0.1}, {6, last}};
  }
  ClientMetric& summary = add("summary", "A summary.", MetricType::Summary);
  summary.summary.sample_count = 3;
  summary.summary.sample_sum = 1.5;
  summary.summary.quantile = {{0.5, 0.25}, {0.99, 1}};
  add("nothing", "No metric.", MetricType::Gauge);
  families.back().metric.clear();
  return prometheus::TextSerializer().Serialize(families);
}
