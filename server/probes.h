// Probes: the answers of the metrics listener: /metrics, /startup, /ready, /live.
#ifndef BARAM_SERVER_PROBES_H_
#define BARAM_SERVER_PROBES_H_

#include <string>
#include <string_view>

#include "server/lifecycle.h"
#include "server/metrics.h"

namespace baram::server {

struct ProbeAnswer {
  int code = 404;            // 200, 404 or 503
  std::string content_type;  // empty with an empty body
  std::string body;
};

// `path` without its query. Cheap but for /metrics, which builds some 20 KB of text. There are no
// metrics (null) while the model loads.
ProbeAnswer AnswerProbe(std::string_view path, const Lifecycle& lifecycle, const Metrics* metrics);

}  // namespace baram::server

#endif  // BARAM_SERVER_PROBES_H_
