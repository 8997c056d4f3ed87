// The subcommands of the program. Each returns the process's exit code.
#ifndef BARAM_SERVER_COMMANDS_H_
#define BARAM_SERVER_COMMANDS_H_

#include <string>
#include <vector>

#include "engine/steady_time.h"

namespace baram::server {

// `program` is as program_name.h has it, `args` are those after the subcommand; `started` is the
// process's start time.
int Serve(const std::string& program, const std::vector<std::string>& args, SteadyTime started);
int Ask(const std::string& program, const std::vector<std::string>& args);
int Inspect(const std::string& program, const std::vector<std::string>& args);

}  // namespace baram::server

#endif  // BARAM_SERVER_COMMANDS_H_
