// HttpEnd: what became of an answer, or of a piece of one.
#ifndef BARAM_SERVER_HTTP_END_H_
#define BARAM_SERVER_HTTP_END_H_

#include <cstdint>
#include <functional>

namespace baram::server {

enum class HttpEnd : uint8_t {
  kSent,  // the network has all of it
  kGone,  // the client, or the listener, went before
  kSlow,  // the client read too slowly and was cut off
};
using OnHttpEnd = std::function<void(HttpEnd)>;

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_END_H_
