// DeviceCopy: copies within a device's memory, at that memory's speed. Through the host gigabytes
// would take seconds.
#ifndef BARAM_TESTS_KERNELS_DEVICE_COPY_H_
#define BARAM_TESTS_KERNELS_DEVICE_COPY_H_

#include <cstdint>

#include "kernels/device.h"

namespace baram::testing {

// Copies are ordered like the device's other work. Addresses are multiples of 4 bytes (of 16 for
// speed), sizes multiples of 4; source and destination must not overlap.
class DeviceCopy {
 public:
  // Allocates from `device`, which must not have run a step yet and must outlive this.
  explicit DeviceCopy(Device& device);

  void Copy(void* to, const void* from, int64_t bytes);
  // Repeats the first `period` bytes of `data` until all `bytes` bytes are filled.
  void Repeat(void* data, int64_t period, int64_t bytes);

 private:
  Device& device_;
  Buffer index_;  // 0, 1, 2, ...
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_KERNELS_DEVICE_COPY_H_
