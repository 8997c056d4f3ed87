// Flags of other servers, for users who come from one.
#ifndef BARAM_SERVER_FOREIGN_FLAGS_H_
#define BARAM_SERVER_FOREIGN_FLAGS_H_

#include <string>
#include <string_view>
#include <vector>

namespace baram::server {

// What to do instead of using vLLM's or llama-server's `flag` ("--ctx-size"), as a sentence; empty
// if neither has it, or baram has it too.
std::string ForeignFlagAdvice(std::string_view flag);
// All flags that have advice.
std::vector<std::string_view> ForeignFlags();

}  // namespace baram::server

#endif  // BARAM_SERVER_FOREIGN_FLAGS_H_
