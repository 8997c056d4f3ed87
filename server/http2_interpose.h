// Puts Http2Guard and Http2GoAway between gRPC and the sockets of its connections.
//
// gRPC offers no hook to inspect frames before it parses them. It reads each connection with
// recvmsg and writes it with sendmsg, which are ours (at the bottom of http2_interpose.cc): a
// definition in the program overrides the C library's. So the guard sees the bytes in the buffers
// where gRPC will read them, without a copy or a system call, and Http2GoAway sees what gRPC
// sends.
#ifndef BARAM_SERVER_HTTP2_INTERPOSE_H_
#define BARAM_SERVER_HTTP2_INTERPOSE_H_

#include <cstdint>

#include "server/http2_go_away.h"
#include "server/http2_guard.h"

namespace baram::server {

// Guards the connection `fd` from its first byte until gRPC closes it: when it breaks a rule, it is
// shut down, and gRPC reads end-of-file instead of the offending bytes. False: the descriptor
// number is too large.
bool GuardHttp2(int fd, const Http2Limits& limits);
// Sends the client of the guarded connection `fd` away: see Http2GoAway. Sends nothing if gRPC
// has closed it meanwhile. Thread-safe.
void SendAwayHttp2(int fd, Http2GoAway::When when);
// Whether the client of the guarded connection `fd` has not started a call yet. Thread-safe.
bool IsSilentHttp2(int fd);
// How many connections of this process were shut down for `rule` since the last call. They are
// counted before they are shut down.
int64_t TakeShutDown(Http2Guard::Broken rule);
// Guarded connections, including those whose clients are gone, until gRPC closes them.
int64_t GuardedHttp2();

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP2_INTERPOSE_H_
