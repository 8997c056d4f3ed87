// CallLog: logs one line and counts one call when a front end's call ends. Never logs content.
#ifndef BARAM_SERVER_CALL_LOG_H_
#define BARAM_SERVER_CALL_LOG_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "engine/steady_time.h"
#include "server/http_end.h"
#include "server/metrics.h"
#include "server/reply_events.h"

namespace baram::server {

struct CallRecord {
  std::string method;      // from a fixed set: "Generate", "/v1/chat/completions"
  std::string request_id;  // empty where the method has none
  std::string peer;        // the client's address: "10.0.0.7:51234", "[fd00::7]:51234"
  std::string code;        // "OK", "INVALID_ARGUMENT"; "200", "499", see RecordHttp
  std::string reason;      // "stop", "length": the worst end; or ErrorFacts::reason; may be empty
  std::string field;       // at fault, as reported to the client; only in the log; may be empty
  std::string limit;       // ErrorFacts::limit
  UsageEvent usage;
  double total_s = 0;  // as measured by the front end

  // Takes the reason and the limit of an error, and its field under the name used in `status`.
  void SetError(const absl::Status& status);
};

// Thread-safe. `metrics` must outlive it.
class CallLog {
 public:
  explicit CallLog(Metrics& metrics) : metrics_(metrics) {}
  void Record(const CallRecord& record);
  // The same for an HTTP call answered with `status`; `end` says what became of the answer. The
  // code is the status; 499 if the client disconnected before it had the whole answer; 408, reason
  // SLOW_READER, if the client was cut off. The last two appear only in the log and in the metrics.
  void RecordHttp(CallRecord record, int status, HttpEnd end);
  // A refused connection. They may come in floods: each is counted, but at most one line per second
  // is written, with their number since the previous line. Those after a flood's last line are
  // reported with the next flood's first.
  void RecordRefused(const std::string& method, const std::string& code, const std::string& reason,
                     SteadyTime now);

 private:
  struct Refused {
    int64_t untold = 0;
    SteadyTime next_line{};
  };

  Metrics& metrics_;
  std::mutex mutex_;                        // guards refused_
  std::map<std::string, Refused> refused_;  // by method and reason
};

}  // namespace baram::server

#endif  // BARAM_SERVER_CALL_LOG_H_
