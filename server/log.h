// The process's log: lines for people, or JSON objects with structured fields.
#ifndef BARAM_SERVER_LOG_H_
#define BARAM_SERVER_LOG_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "server/json_fields.h"

namespace baram::server {

// Sets up the log: `format` is "text" or "json" (one object per line), `level` is one of spdlog's
// names. A dedicated thread writes the lines to standard error, so that no other thread waits for
// its reader: if the reader stalls, as with a blocked pipe or Ctrl-S, the oldest lines are dropped
// and counted; so are lines that can't be written, e.g. to a full disk. Call before any other
// thread logs.
void SetUpLog(const std::string& format, const std::string& level);
// Lines lost so far. Thread-safe.
uint64_t LostLogLines();
// Waits until all lines so far are written, for at most a second; false if they were not. The
// process must then end with _exit, since an ordinary exit would wait for them too. Returns true at
// once if SetUpLog was not called.
bool FlushLog();

// Writes a line of the same form, at `level` (spdlog's name), bypassing the log's thread: for
// callers about to end the process, whatever may hang. Takes no lock and allocates nothing, so
// signal handlers may call it; it gives up if standard error does not accept output now. `message`
// must not need JSON escapes.
void LogUnqueued(std::string_view message, std::string_view level = "warning");

// Logs a line at level info: `text` for people; in JSON `event` is the message, and `facts`, an
// object, adds fields. Thread-safe. Never log the content of requests.
void LogFacts(const std::string& text, const std::string& event, const Json& facts);
// The same with a text that begins with the event and the values of "method", "code" and "reason";
// the other facts follow as key=value, in their order.
void LogFacts(const std::string& event, const Json& facts);

}  // namespace baram::server

#endif  // BARAM_SERVER_LOG_H_
