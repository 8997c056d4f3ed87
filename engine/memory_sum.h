// What an engine takes of a device's memory, added up before anything is loaded; and what the
// operator is told where it does not fit.
#ifndef BARAM_ENGINE_MEMORY_SUM_H_
#define BARAM_ENGINE_MEMORY_SUM_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/config.h"
#include "kernels/device.h"

namespace baram {

// The memory this engine may use; no parts yet.
MemorySum MemoryFor(const EngineConfig& config, const DeviceInfo& device);

// What all parts take together.
int64_t PartsBytes(const MemorySum& sum);

// FailedPrecondition: of a device's own memory less is free than the share asks for.
absl::Status CheckShare(const MemorySum& sum);

// FailedPrecondition, with every part: together they are more than what may be used.
absl::Status CheckFits(const MemorySum& sum);

// "cuda:0 has 143.77 GB, of which 143.10 GB are free; 129.39 GB are taken: weights 16.06 GB, ...".
std::string DescribeSum(const MemorySum& sum);

// "16.06 GB", "1.5 MB".
std::string ShowBytes(int64_t bytes);

}  // namespace baram

#endif  // BARAM_ENGINE_MEMORY_SUM_H_
