// Puts Http2Guard and Http2Farewell between gRPC and the sockets of its connections.
//
// gRPC has no place to look at frames before it takes them. It reads each connection with recvmsg
// and writes it with sendmsg, which are ours (at the bottom of http2_interpose.cc): the C library's
// give way to what the program defines. So the guard sees the bytes where gRPC will read them,
// without a copy or a system call, and Http2Farewell what gRPC sends.
#ifndef BARAM_SERVER_HTTP2_INTERPOSE_H_
#define BARAM_SERVER_HTTP2_INTERPOSE_H_

#include <cstdint>

#include "server/http2_farewell.h"
#include "server/http2_guard.h"

namespace baram::server {

// Guards the connection `fd` from its first byte until gRPC closes it: where it breaks a rule, it
// is shut down, and gRPC reads its end instead of what broke the rule. False: the number is too
// large.
bool GuardHttp2(int fd, const Http2Limits& limits);
// Sends the client of the guarded connection `fd` away: see Http2Farewell. Nothing is sent if gRPC
// has closed it meanwhile. From any thread.
void SendAwayHttp2(int fd, Http2Farewell::When when);
// How many connections of this process were shut down for `rule` since this was asked before. They
// are counted before they are shut down.
int64_t TakeShutDown(Http2Guard::Broken rule);
// Connections that are guarded: also of those whose clients are gone, until gRPC closes them.
int64_t GuardedHttp2();

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP2_INTERPOSE_H_
