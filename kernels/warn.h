// Where a device sends its sentences for the operator.
#ifndef BARAM_KERNELS_WARN_H_
#define BARAM_KERNELS_WARN_H_

#include <cstdio>
#include <functional>
#include <string>

namespace baram {

using Warn = std::function<void(const std::string& sentence)>;

// `warn`, or standard error.
inline Warn OrStderr(const Warn& warn) {
  if (warn) return warn;
  return [](const std::string& sentence) { std::fprintf(stderr, "baram: %s\n", sentence.c_str()); };
}

}  // namespace baram

#endif  // BARAM_KERNELS_WARN_H_
