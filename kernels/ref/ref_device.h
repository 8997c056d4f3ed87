// The device "ref": every op as a plain fp32 loop, the definition of the op. One thread, no
// intrinsics.
#ifndef BARAM_KERNELS_REF_REF_DEVICE_H_
#define BARAM_KERNELS_REF_REF_DEVICE_H_

#include <memory>
#include <string>

#include "kernels/device.h"

namespace baram {

std::unique_ptr<Device> OpenRefDevice(const DeviceOptions& options, std::string* error);

}  // namespace baram

#endif  // BARAM_KERNELS_REF_REF_DEVICE_H_
