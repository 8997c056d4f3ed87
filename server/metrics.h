// Metrics: what the engine, the front ends and the system count, in Prometheus' text form.
//
// Tables in metrics.cc name what is read of engine/stats.h as it is; Collect adds what is computed.
// It reads relaxed atomics and never stops the engine.
#ifndef BARAM_SERVER_METRICS_H_
#define BARAM_SERVER_METRICS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "engine/config.h"
#include "engine/stats.h"

namespace prometheus {
struct MetricFamily;
}

namespace baram::server {

class TextPool;

// All methods from any thread. All that it is given must outlive it.
class Metrics {
 public:
  Metrics(const EngineInfo& info, const Stats& stats, const TextPool& texts,
          std::string model_name);
  ~Metrics();

  // One call of a front end has ended. `method` and `code` come from fixed sets (a gRPC method or
  // an HTTP route; a status name or number), `reason` from ErrorFacts or the finish reason: nothing
  // a client can invent becomes a label.
  void CountCall(std::string_view method, std::string_view code, std::string_view reason);
  // One was refused because of `limit`, one of kLimits.
  void CountOverload(std::string_view limit);

  // A listener that holds at most `most` connections, and how many are `open` now. `listener` is
  // from a fixed set: "grpc", "http", "metrics". `open` is called whenever metrics are read.
  void AddListener(std::string listener, int64_t most, std::function<int64_t()> open);
  // Before a listener ends: none is asked any more.
  void ForgetListeners();

  // The whole exposition, content type kContentType.
  std::string Text() const;
  static constexpr char kContentType[] = "text/plain; version=0.0.4; charset=utf-8";

 private:
  class Exposition;

  std::vector<prometheus::MetricFamily> Collect() const;
  // What the engine counts, but for its histograms, and the texts before it.
  void AddEngine(Exposition& out) const;
  // What is under mutex_.
  void AddCalls(Exposition& out) const;
  // What does not change.
  void AddFacts(Exposition& out) const;

  const EngineInfo& info_;
  const Stats& stats_;
  const TextPool& texts_;
  const std::string model_name_;
  const double start_time_s_;  // the process's, Unix time
  struct Listener {
    std::string name;
    int64_t most;
    std::function<int64_t()> open;
  };
  mutable std::mutex mutex_;  // guards what follows
  std::vector<Listener> listeners_;
  std::map<std::tuple<std::string, std::string, std::string>, uint64_t> calls_;
  std::map<std::string, uint64_t> overloads_;  // by limit
};

}  // namespace baram::server

#endif  // BARAM_SERVER_METRICS_H_
