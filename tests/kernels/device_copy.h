// DeviceCopy: copies inside a device's memory, at that memory's speed. Through the host gigabytes
// take seconds.
#ifndef BARAM_TESTS_KERNELS_DEVICE_COPY_H_
#define BARAM_TESTS_KERNELS_DEVICE_COPY_H_

#include <cstdint>

#include "kernels/device.h"

namespace baram::testing {

// All copies are in the order of the device. Addresses are multiples of 4 bytes, of 16 for speed,
// and sizes multiples of 4; what is read and what is written do not overlap.
class DeviceCopy {
 public:
  // Takes memory from `device`, which has not run a step yet and must outlive it.
  explicit DeviceCopy(Device& device);

  void Copy(void* to, const void* from, int64_t bytes);
  // Writes the first `period` bytes of `data` behind them, again and again, until all `bytes` are
  // written.
  void Repeat(void* data, int64_t period, int64_t bytes);

 private:
  Device& device_;
  Buffer index_;  // 0, 1, 2, ...
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_KERNELS_DEVICE_COPY_H_
