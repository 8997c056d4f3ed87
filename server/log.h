// The process's log: lines for people, or JSON objects whose facts are fields.
#ifndef BARAM_SERVER_LOG_H_
#define BARAM_SERVER_LOG_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "server/json_fields.h"

namespace baram::server {

// Sets the log up: `format` is "text" or "json" (one object a line), `level` as spdlog names them.
// A thread of its own writes the lines to standard error, so that no other thread waits for whoever
// reads them: when the reader stalls, as a blocked pipe or Ctrl-S makes it, the oldest lines are
// lost and counted; so are those that can't be written, as to a full disk. Call before any other
// thread logs.
void SetUpLog(const std::string& format, const std::string& level);
// Lines lost so far. Any thread.
uint64_t LostLogLines();
// Waits until all lines so far are written, a second at most; false if they were not. Then the
// process must end by _exit, since an ordinary exit would wait for them too. True at once if
// SetUpLog was not called.
bool FlushLog();

// A line of the same form, at `level` as spdlog names it, past the log's thread: for who is about
// to end the process, whatever may hang. Takes no lock and no memory, so that signal handlers may
// call it, and gives up where standard error takes nothing now. `message` holds nothing that JSON
// escapes.
void LogUnqueued(std::string_view message, std::string_view level = "warning");

// A line at level info: `text` for people; in JSON `event` is the message, and `facts`, an object,
// are fields beside it. Any thread. Never content of requests.
void LogFacts(const std::string& text, const std::string& event, const Json& facts);

}  // namespace baram::server

#endif  // BARAM_SERVER_LOG_H_
