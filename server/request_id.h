// Request ids: what a client may call its request, over gRPC and HTTP alike.
#ifndef BARAM_SERVER_REQUEST_ID_H_
#define BARAM_SERVER_REQUEST_ID_H_

#include <string_view>

#include "absl/status/status.h"

namespace baram::server {

// 1 to 128 bytes of printable ASCII without blanks, quotes and backslashes: ids stand as they are
// in log lines, headers, metadata and JSON.
bool IsRequestId(std::string_view text);
// InvalidArgument, field request_id, for what is none.
absl::Status CheckRequestId(std::string_view text);

}  // namespace baram::server

#endif  // BARAM_SERVER_REQUEST_ID_H_
