// The program's name in the example commands that it prints.
#ifndef BARAM_SERVER_PROGRAM_NAME_H_
#define BARAM_SERVER_PROGRAM_NAME_H_

#include <string>
#include <string_view>

namespace baram::server {

// argv[0] as one word of a shell's command line, quoted if needed; "baram" if null or empty.
// Commands that begin with it run as printed, also where the program is not on PATH.
std::string ProgramName(const char* argv0);

// `text` with `program` in place of every "$0".
std::string WithProgram(std::string_view text, std::string_view program);

}  // namespace baram::server

#endif  // BARAM_SERVER_PROGRAM_NAME_H_
