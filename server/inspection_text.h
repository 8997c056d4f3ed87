// What `baram inspect` prints.
#ifndef BARAM_SERVER_INSPECTION_TEXT_H_
#define BARAM_SERVER_INSPECTION_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/engine.h"

namespace baram::server {

// The folder's tokenizer and chat template; the other members are valid if `status` is OK.
struct InspectedText {
  absl::Status status;
  int64_t tokens = 0;         // in the vocabulary
  std::string chat_template;  // "yes", or what its absence means
};

// One aligned line per fact; for a GPU, the memory each part takes; last, whether the model can be
// served, and if not, why.
std::string DescribeInspection(const Inspection& found, const InspectedText& text);

}  // namespace baram::server

#endif  // BARAM_SERVER_INSPECTION_TEXT_H_
