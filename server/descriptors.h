// Descriptors: how many connections this process can hold with the files that it may open.
#ifndef BARAM_SERVER_DESCRIPTORS_H_
#define BARAM_SERVER_DESCRIPTORS_H_

#include <cstdint>

namespace baram::server {

// Connections at once. One of HTTP needs a descriptor, one of gRPC two.
struct ConnectionShares {
  int32_t calls = 0;    // of HTTP and of gRPC each
  int32_t probes = 0;   // of the metrics listener
  int32_t refused = 0;  // of each HTTP listener, above its own: told why they are refused

  int64_t descriptors() const { return 3 * int64_t{calls} + probes + 2 * int64_t{refused}; }
};

// What this process may open, RLIMIT_NOFILE.
int64_t DescriptorLimit();
// What a server that is to hold `max_connections` opens in all.
int64_t DescriptorsFor(int32_t max_connections);
// All that is wished for, if `limit` allows it. Else less of each, at least one, so that calls take
// neither the descriptors of probes nor those of the process itself.
ConnectionShares ShareDescriptors(int64_t limit, int32_t max_connections);

}  // namespace baram::server

#endif  // BARAM_SERVER_DESCRIPTORS_H_
