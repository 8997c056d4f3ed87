// Opens a device by name. Besides CMake the only place that knows which devices this build has.
#include "kernels/cpu/open_cpu.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/device.h"
#include "kernels/ref/ref_device.h"

namespace baram {
namespace {

struct DeviceKind {
  const char* name;
  std::unique_ptr<Device> (*open)(const DeviceOptions& options, std::string* error);
  bool numbered;                        // there may be several: "name:which"
  std::string (*variants)() = nullptr;  // what it was compiled for, if builds differ in that
};

// CMake defines the function of a kind that is not always built, null if it is not.
constexpr DeviceKind kDevices[] = {
    {"cpu", OpenCpuDevice, false},
    {"ref", OpenRefDevice, false},
    {"cuda", BARAM_OPEN_CUDA, true, BARAM_CUDA_VARIANTS},
};

}  // namespace

std::unique_ptr<Device> OpenDevice(const std::string& name, const DeviceOptions& options,
                                   std::string* error) {
  for (const DeviceKind& kind : kDevices) {
    if (kind.open == nullptr) continue;
    if (name == kind.name) return kind.open(options, error);
    const std::string prefix = std::string(kind.name) + ":";
    if (!kind.numbered || !name.starts_with(prefix)) continue;
    DeviceOptions with_which = options;
    with_which.which = name.substr(prefix.size());
    return kind.open(with_which, error);
  }
  *error = "there is no device \"" + name + "\"; this build has " + BuiltDevices();
  return nullptr;
}

std::string BuiltDevices() {
  std::string names;
  for (const DeviceKind& kind : kDevices) {
    if (kind.open == nullptr) continue;
    if (!names.empty()) names += ", ";
    names += kind.name;
    if (kind.variants != nullptr) names += " (" + kind.variants() + ")";
  }
  return names;
}

}  // namespace baram
