// The process's log: lines for people, or JSON objects whose facts are fields.
#ifndef BARAM_SERVER_LOG_H_
#define BARAM_SERVER_LOG_H_

#include <string>

#include "server/json_fields.h"

namespace baram::server {

// Sets the log up: `format` is "text" or "json" (one object a line), `level` as spdlog names them.
// Lines go to standard error. Before any other thread logs.
void SetUpLog(const std::string& format, const std::string& level);

// A line at level info: `text` for people; in JSON `event` is the message, and `facts`, an object,
// are fields beside it. Any thread. Never content of requests.
void LogFacts(const std::string& text, const std::string& event, const Json& facts);

}  // namespace baram::server

#endif  // BARAM_SERVER_LOG_H_
