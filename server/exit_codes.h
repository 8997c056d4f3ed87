// Exit codes of the program, from sysexits.h.
#ifndef BARAM_SERVER_EXIT_CODES_H_
#define BARAM_SERVER_EXIT_CODES_H_

#include "absl/status/status.h"

namespace baram::server {

inline constexpr int kExitUsage = 64, kExitData = 65, kExitNoInput = 66, kExitUnavailable = 69,
                     kExitInternal = 70, kExitOs = 71, kExitIo = 74, kExitConfig = 78;

// The code of a status that ends the program.
int ExitCode(const absl::Status& status);

}  // namespace baram::server

#endif  // BARAM_SERVER_EXIT_CODES_H_
