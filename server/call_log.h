// CallLog: one line and one count for each call of a front end, at its end. Never content.
#ifndef BARAM_SERVER_CALL_LOG_H_
#define BARAM_SERVER_CALL_LOG_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "server/metrics.h"
#include "server/reply.h"

namespace baram::server {

struct CallRecord {
  std::string method;      // from a fixed set: "Generate", "/v1/chat/completions"
  std::string request_id;  // empty where the method has none
  std::string code;        // "OK", "INVALID_ARGUMENT"; "200", "499"
  std::string reason;      // how it ended: "stop", "length", or ErrorFacts::reason; may be empty
  UsageEvent usage;
  double total_s = 0;  // as the front end saw it
};

// Any thread. `metrics` must outlive it.
class CallLog {
 public:
  explicit CallLog(Metrics& metrics) : metrics_(metrics) {}
  void Record(const CallRecord& record);

 private:
  Metrics& metrics_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_CALL_LOG_H_
