// Runs the program in a shell. For tests that define BARAM_PROGRAM, its path.
#ifndef BARAM_TESTS_SERVER_PROGRAM_H_
#define BARAM_TESTS_SERVER_PROGRAM_H_

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace baram::testing {

struct Ran {
  int code = -1;
  std::string output;  // stdout and stderr
};

// Runs `script` in a shell, where $BARAM is the program: if it does not end, it is killed with code
// 124. It sees no settings from the environment of the test run.
inline Ran RunShell(const std::string& script) {
  Ran ran;
  const std::string line =
      "exec 2>&1; unset $(env | sed -n 's/^\\(BARAM_[A-Z0-9_]*\\)=.*/\\1/p'); "
      "BARAM='timeout --foreground 20 " BARAM_PROGRAM "'; " +
      script;
  FILE* pipe = popen(line.c_str(), "r");
  if (pipe == nullptr) return ran;
  std::array<char, 4096> bytes;
  for (size_t got; (got = fread(bytes.data(), 1, bytes.size(), pipe)) > 0;) {
    ran.output.append(bytes.data(), got);
  }
  const int status = pclose(pipe);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ran;
}

}  // namespace baram::testing

#endif  // BARAM_TESTS_SERVER_PROGRAM_H_
