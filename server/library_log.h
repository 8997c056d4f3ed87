// What gRPC and Protobuf say for themselves.
#ifndef BARAM_SERVER_LIBRARY_LOG_H_
#define BARAM_SERVER_LIBRARY_LOG_H_

namespace baram::server {

// From now on their lines are lines of the log at level debug: they tell of clients too, and what
// concerns us comes as a status. Where gRPC or Protobuf aborts, the last two errors of the thread
// are written past the log as well: they are the reason. May be called again.
void RedirectLibraryLogs();

}  // namespace baram::server

#endif  // BARAM_SERVER_LIBRARY_LOG_H_
