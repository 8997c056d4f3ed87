// Environment variables that configure a test run.
//
//   BARAM_TEST_DEVICE   a device as --device names it, "cuda:0": the tests that a device must pass
//                       run only on it. Unset: each test chooses its devices.
//   BARAM_TEST_OVERLAP  0: on a GPU kernels do not overlap, see DeviceOptions::overlap_kernels.
//   BARAM_TEST_SOURCES  the folder of the sources, if the binaries run on a machine other than the
//                       one that built them.
#ifndef BARAM_TESTS_ENVIRONMENT_H_
#define BARAM_TESTS_ENVIRONMENT_H_

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>

namespace baram::testing {

// Empty: none was requested.
inline std::string RequestedDevice() {
  const char* device = std::getenv("BARAM_TEST_DEVICE");
  return device == nullptr ? "" : device;
}

inline bool KernelsOverlap() {
  const char* overlap = std::getenv("BARAM_TEST_OVERLAP");
  return overlap == nullptr || std::string(overlap) != "0";
}

inline std::string SourceFolder() {
  const char* folder = std::getenv("BARAM_TEST_SOURCES");
  return folder == nullptr ? BARAM_SOURCE_DIR : folder;
}

// A device's name in the form used in test names: "cuda:0" becomes cuda_0.
inline std::string TestName(std::string device) {
  std::replace_if(
      device.begin(), device.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return device;
}

}  // namespace baram::testing

#endif  // BARAM_TESTS_ENVIRONMENT_H_
