// Process metrics: the system's statistics about this process.
#ifndef BARAM_SERVER_PROCESS_METRICS_H_
#define BARAM_SERVER_PROCESS_METRICS_H_

#include <cstdint>
#include <vector>

namespace prometheus {
struct MetricFamily;
}

namespace baram::server {

// Unix time at which this process started; 0 if the system does not report it.
double ProcessStartTime();

// This process's resident memory; 0 if the system does not report it.
int64_t ResidentBytes();

// The current process_* families, under the names that all Prometheus client libraries use;
// `start_time_s` is ProcessStartTime's result, read only once since the clock may be set. What
// can't be read is omitted. Thread-safe.
std::vector<prometheus::MetricFamily> ProcessMetrics(double start_time_s);

}  // namespace baram::server

#endif  // BARAM_SERVER_PROCESS_METRICS_H_
