// Opens a device by name. With CMake the only place that knows which devices this build has.
#include "kernels/cpu/cpu_device.h"
#include "kernels/device.h"
#include "kernels/ref/ref_device.h"

namespace baram {
namespace {

struct DeviceKind {
  const char* name;
  std::unique_ptr<Device> (*open)(const DeviceOptions& options, std::string* error);
};

constexpr DeviceKind kDevices[] = {
    {"cpu", OpenCpuDevice},
    {"ref", OpenRefDevice},
};

}  // namespace

std::unique_ptr<Device> OpenDevice(const std::string& name, const DeviceOptions& options,
                                   std::string* error) {
  for (const DeviceKind& kind : kDevices) {
    if (name == kind.name) return kind.open(options, error);
  }
  *error = "there is no device \"" + name + "\"; this build has " + BuiltDevices();
  return nullptr;
}

std::string BuiltDevices() {
  std::string names;
  for (const DeviceKind& kind : kDevices) {
    if (!names.empty()) names += ", ";
    names += kind.name;
  }
  return names;
}

}  // namespace baram
