// The two functions of prometheus-cpp's core library that the server calls, for static builds:
// Debian has that library's headers and shared library, but no archive. tests/server compares the
// two.
#include <prometheus/serializer.h>
#include <prometheus/text_serializer.h>

#include <cmath>
#include <limits>
#include <locale>
#include <sstream>
#include <string>

namespace prometheus {
namespace {

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

void WriteNumber(std::ostream& out, double value) {
  if (std::isnan(value)) {
    out << "Nan";
  } else if (std::isinf(value)) {
    out << (value < 0 ? "-Inf" : "+Inf");
  } else {
    out << value;
  }
}

// Writes one family's lines.
class Writer {
 public:
  Writer(std::ostream& out, const MetricFamily& family) : out_(out), family_(family) {}

  void Write() {
    if (!family_.help.empty()) out_ << "# HELP " << family_.name << " " << family_.help << "\n";
    out_ << "# TYPE " << family_.name << " " << TypeName() << "\n";
    for (const ClientMetric& metric : family_.metric) {
      switch (family_.type) {
        case MetricType::Counter:
          Line(metric, "", metric.counter.value);
          break;
        case MetricType::Gauge:
          Line(metric, "", metric.gauge.value);
          break;
        case MetricType::Untyped:
          Line(metric, "", metric.untyped.value);
          break;
        case MetricType::Summary:
          WriteSummary(metric);
          break;
        case MetricType::Histogram:
          WriteHistogram(metric);
          break;
      }
    }
  }

 private:
  const char* TypeName() const {
    switch (family_.type) {
      case MetricType::Counter:
        return "counter";
      case MetricType::Gauge:
        return "gauge";
      case MetricType::Summary:
        return "summary";
      case MetricType::Histogram:
        return "histogram";
      case MetricType::Untyped:
        break;
    }
    return "untyped";
  }

  void WriteSummary(const ClientMetric& metric) {
    Line(metric, "_count", metric.summary.sample_count);
    Line(metric, "_sum", metric.summary.sample_sum);
    for (const ClientMetric::Quantile& q : metric.summary.quantile) {
      Line(metric, "", q.value, "quantile", q.quantile);
    }
  }

  void WriteHistogram(const ClientMetric& metric) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    Line(metric, "_count", metric.histogram.sample_count);
    Line(metric, "_sum", metric.histogram.sample_sum);
    double last = -kInfinity;
    for (const ClientMetric::Bucket& bucket : metric.histogram.bucket) {
      Line(metric, "_bucket", bucket.cumulative_count, "le", bucket.upper_bound);
      last = bucket.upper_bound;
    }
    if (last != kInfinity) {
      Line(metric, "_bucket", metric.histogram.sample_count, "le", kInfinity);
    }
  }

  // A null `extra` means no further label.
  template <typename Value>
  void Line(const ClientMetric& metric, const char* suffix, Value value,
            const char* extra = nullptr, double extra_value = 0) {
    out_ << family_.name << suffix;
    const char* separator = "{";
    for (const ClientMetric::Label& label : metric.label) {
      out_ << separator << label.name << "=\"" << Escaped(label.value) << "\"";
      separator = ",";
    }
    if (extra != nullptr) {
      out_ << separator << extra << "=\"";
      WriteNumber(out_, extra_value);
      out_ << "\"";
      separator = ",";
    }
    out_ << (*separator == ',' ? "} " : " ");
    if constexpr (std::is_floating_point_v<Value>) {
      WriteNumber(out_, value);
    } else {
      out_ << value;
    }
    if (metric.timestamp_ms != 0) out_ << " " << metric.timestamp_ms;
    out_ << "\n";
  }

  std::ostream& out_;
  const MetricFamily& family_;
};

}  // namespace

std::string Serializer::Serialize(const std::vector<MetricFamily>& metrics) const {
  std::ostringstream out;
  Serialize(out, metrics);
  return out.str();
}

void TextSerializer::Serialize(std::ostream& out, const std::vector<MetricFamily>& metrics) const {
  const std::locale locale = out.imbue(std::locale::classic());
  const std::streamsize precision = out.precision(std::numeric_limits<double>::max_digits10 - 1);
  for (const MetricFamily& family : metrics) Writer(out, family).Write();
  out.imbue(locale);
  out.precision(precision);
}

}  // namespace prometheus
