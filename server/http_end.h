// HttpEnd: the fate of an answer, or of a piece of one.
#ifndef BARAM_SERVER_HTTP_END_H_
#define BARAM_SERVER_HTTP_END_H_

#include <cstdint>
#include <functional>

namespace baram::server {

enum class HttpEnd : uint8_t {
  kSent,  // all of it was handed to the network
  kGone,  // the client disconnected first, or the listener stopped
  kSlow,  // the client read too slowly and was cut off
};
using OnHttpEnd = std::function<void(HttpEnd)>;

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_END_H_
