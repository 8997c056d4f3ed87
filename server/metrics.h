// Metrics: engine, front-end and system counters in Prometheus' text format.
//
// Tables in metrics.cc list what is exported from engine/stats.h unchanged; Collect adds what is
// computed. It reads relaxed atomics and never stops the engine.
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

// Thread-safe. All constructor arguments must outlive it.
class Metrics {
 public:
  Metrics(const EngineInfo& info, const Stats& stats, const TextPool& texts,
          std::string model_name);
  ~Metrics();

  // Counts a call of a front end that has ended. `method` and `code` come from fixed sets (a gRPC
  // method or an HTTP route; a status name or number), `reason` from ErrorFacts or the finish
  // reason: nothing that a client can make up becomes a label.
  void CountCall(std::string_view method, std::string_view code, std::string_view reason);
  // Counts a call refused because of `limit`, one of kLimits.
  void CountOverload(std::string_view limit);

  // Adds a listener that holds at most `most` connections, and has open() at the moment. `listener`
  // is from a fixed set: "grpc", "http", "metrics". `open` is called whenever metrics are read.
  void AddListener(std::string listener, int64_t most, std::function<int64_t()> open);
  // Call before a listener is destroyed: no `open` is called any more.
  void ForgetListeners();

  // The whole exposition, content type kContentType.
  std::string Text() const;
  static constexpr char kContentType[] = "text/plain; version=0.0.4; charset=utf-8";

 private:
  class Exposition;

  std::vector<prometheus::MetricFamily> Collect() const;
  // The engine's statistics without the histograms, and the texts waiting before it.
  void AddEngine(Exposition& out) const;
  // Everything guarded by mutex_.
  void AddCalls(Exposition& out) const;
  // Constant facts.
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
