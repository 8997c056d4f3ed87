// Request ids: the names that clients may give their requests, over gRPC and HTTP.
#ifndef BARAM_SERVER_REQUEST_ID_H_
#define BARAM_SERVER_REQUEST_ID_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace baram::server {

// 1 to 128 bytes of printable ASCII without spaces, quotes or backslashes: ids appear verbatim in
// log lines, headers, metadata and JSON.
bool IsRequestId(std::string_view text);
// InvalidArgument, field request_id, if `text` is not one.
absl::Status CheckRequestId(std::string_view text);
// Unique in this process and, with overwhelming probability, globally.
std::string NewRequestId();

}  // namespace baram::server

#endif  // BARAM_SERVER_REQUEST_ID_H_
