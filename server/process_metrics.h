// Process metrics: what the system counts of this process.
#ifndef BARAM_SERVER_PROCESS_METRICS_H_
#define BARAM_SERVER_PROCESS_METRICS_H_

#include <vector>

namespace prometheus {
struct MetricFamily;
}

namespace baram::server {

// Unix time at which this process began; 0 if the system does not say.
double ProcessStartTime();

// The process_* families as all of Prometheus' client libraries name them, of now; `start_time_s`
// is ProcessStartTime's, read once as the clock may be set. What can't be read is left out. Any
// thread.
std::vector<prometheus::MetricFamily> ProcessMetrics(double start_time_s);

}  // namespace baram::server

#endif  // BARAM_SERVER_PROCESS_METRICS_H_
