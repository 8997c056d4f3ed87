// Redirects the log output of gRPC and Protobuf.
#ifndef BARAM_SERVER_LIBRARY_LOG_H_
#define BARAM_SERVER_LIBRARY_LOG_H_

namespace baram::server {

// From now on their lines go to the log at level debug: they may concern clients, and what concerns
// us also comes as a status. If gRPC or Protobuf aborts, the thread's last two errors, which are
// the reason, are also written past the log's queue. May be called again.
void RedirectLibraryLogs();

}  // namespace baram::server

#endif  // BARAM_SERVER_LIBRARY_LOG_H_
