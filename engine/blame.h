// Which setting caused an error, as a payload of absl::Status.
#ifndef BARAM_ENGINE_BLAME_H_
#define BARAM_ENGINE_BLAME_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace baram {

// Marks an error as caused by the value of one setting, so that the operator can be shown which
// one, and where its value comes from. The names are those of `baram serve`, such as
// "max-model-len"; a caller with other names translates them.
absl::Status BlameSetting(absl::Status status, std::string_view setting);
// Empty if no single setting is to blame.
std::string BlamedSetting(const absl::Status& status);

}  // namespace baram

#endif  // BARAM_ENGINE_BLAME_H_
