// The options of baram ask.
#ifndef BARAM_SERVER_ASK_OPTIONS_H_
#define BARAM_SERVER_ASK_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace baram::server {

// With "$0" for the program, see program_name.h.
extern const char kAskHelp[];

struct AskOptions {
  std::string program = "baram";  // see program_name.h; not an argument
  bool chat = false, raw = false, timings = false;
  std::string question, system, model, address = "127.0.0.1:50051";
  std::optional<uint32_t> max_tokens, top_k;
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
};

// Parses the arguments after "ask" and the variable BARAM_SERVER. The error is a sentence for the
// user.
absl::StatusOr<AskOptions> ParseAskOptions(const std::vector<std::string>& args);

}  // namespace baram::server

#endif  // BARAM_SERVER_ASK_OPTIONS_H_
