// Descriptors: how many connections this process can hold within its file descriptor limit.
#ifndef BARAM_SERVER_DESCRIPTORS_H_
#define BARAM_SERVER_DESCRIPTORS_H_

#include <cstdint>

namespace baram::server {

// Concurrent connections. An HTTP connection needs one descriptor, a gRPC connection two.
struct ConnectionShares {
  int32_t calls = 0;    // HTTP and gRPC each
  int32_t probes = 0;   // of the metrics listener
  int32_t refused = 0;  // per listener, above its limit: about to be closed; one descriptor each

  int64_t descriptors() const { return 3 * int64_t{calls} + probes + 3 * int64_t{refused}; }
};

// The number of descriptors that this process may open, RLIMIT_NOFILE.
int64_t DescriptorLimit();
// The number of descriptors that a server with `max_connections` opens in all.
int64_t DescriptorsFor(int32_t max_connections);
// Everything that is wanted, if `limit` allows it. Otherwise less of each, but at least one, so
// that calls use up neither the descriptors of probes nor those of the process itself.
ConnectionShares ShareDescriptors(int64_t limit, int32_t max_connections);

}  // namespace baram::server

#endif  // BARAM_SERVER_DESCRIPTORS_H_
