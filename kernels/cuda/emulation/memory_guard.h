// Makes the emulated GPU's memory untouchable for a while: whoever reads or writes it then is
// reported by the address sanitizer. Without the sanitizer nothing happens.
#ifndef BARAM_KERNELS_CUDA_EMULATION_MEMORY_GUARD_H_
#define BARAM_KERNELS_CUDA_EMULATION_MEMORY_GUARD_H_

#include <cstddef>

namespace baram::cuda::emulation {

// What Allocate() hands out and Free() takes back. Any thread.
void AddDeviceMemory(void* memory, size_t bytes);
void RemoveDeviceMemory(void* memory);

// The thread that emulates a launch calls these, Guard and Release in turn. Memory that is added
// between the two is not guarded.
void GuardDeviceMemory();
void ReleaseDeviceMemory();
// Copies from memory that may be guarded. Beyond the ends of what was allocated the sanitizer
// reports it.
void ReadGuarded(void* to, const void* from, size_t bytes);

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_MEMORY_GUARD_H_
