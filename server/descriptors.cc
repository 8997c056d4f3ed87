// Descriptors: see the header.
#include "server/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

namespace baram::server {
namespace {

// For standard streams, listeners, threads' eventfds and epolls, of which about 20 are open when a
// server starts; a model's files are closed by then.
constexpr int64_t kOwn = 128;
// There are few kubelets and scrapers.
constexpr int32_t kMaxProbes = 128, kMaxRefused = 64;

int32_t AtMost(int32_t most, int64_t wished) {
  return static_cast<int32_t>(std::clamp<int64_t>(wished, 1, most));
}

}  // namespace

int64_t DescriptorLimit() {
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kNone;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, kNone));
}

int64_t DescriptorsFor(int32_t max_connections) {
  return ConnectionShares{max_connections, kMaxProbes, kMaxRefused}.descriptors() + kOwn;
}

ConnectionShares ShareDescriptors(int64_t limit, int32_t max_connections) {
  if (DescriptorsFor(max_connections) <= limit) return {max_connections, kMaxProbes, kMaxRefused};
  const int64_t left = limit - std::min(kOwn, limit / 2);
  ConnectionShares shares;
  shares.probes = AtMost(kMaxProbes, left / 4);
  shares.refused = AtMost(kMaxRefused, left / 16);
  shares.calls = AtMost(max_connections, (left - shares.descriptors()) / 3);
  return shares;
}

}  // namespace baram::server
