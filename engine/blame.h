// Which setting is to blame for an error, as a payload of absl::Status.
#ifndef BARAM_ENGINE_BLAME_H_
#define BARAM_ENGINE_BLAME_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace baram {

// An error that one setting's value brings, so that its operator can be told which, and where that
// value stands. The names are those of `baram serve`, "max-model-len": who has others changes the
// words.
absl::Status BlameSetting(absl::Status status, std::string_view setting);
// Empty: none, or several together.
std::string BlamedSetting(const absl::Status& status);

}  // namespace baram

#endif  // BARAM_ENGINE_BLAME_H_
