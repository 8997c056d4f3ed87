// Opening the CPU device.
#ifndef BARAM_KERNELS_CPU_OPEN_CPU_H_
#define BARAM_KERNELS_CPU_OPEN_CPU_H_

#include <memory>
#include <string>

#include "kernels/cpu/worker_pool.h"
#include "kernels/device.h"
#include "kernels/host_facts.h"

namespace baram::cpu {

// All but enter_thread. Pins no worker where PinningProblem has something to say.
WorkerPool::Options PoolOptionsOf(const DeviceOptions& options, const HostFacts& host);

}  // namespace baram::cpu

namespace baram {

// See OpenDevice.
std::unique_ptr<Device> OpenCpuDevice(const DeviceOptions& options, std::string* error);

}  // namespace baram

#endif  // BARAM_KERNELS_CPU_OPEN_CPU_H_
