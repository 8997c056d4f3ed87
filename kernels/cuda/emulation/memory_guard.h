// Makes the emulated GPU's memory inaccessible for a while: the address sanitizer then reports any
// read or write of it. Without the sanitizer this does nothing.
#ifndef BARAM_KERNELS_CUDA_EMULATION_MEMORY_GUARD_H_
#define BARAM_KERNELS_CUDA_EMULATION_MEMORY_GUARD_H_

#include <cstddef>

namespace baram::cuda::emulation {

// What Allocate() returns and Free() releases. Any thread.
void AddDeviceMemory(void* memory, size_t bytes);
void RemoveDeviceMemory(void* memory);

// The thread that emulates a launch calls these in turn. Memory added between the two is not
// guarded.
void GuardDeviceMemory();
void ReleaseDeviceMemory();
// Copies from memory that may be guarded. The sanitizer reports reads outside the allocation.
void ReadGuarded(void* to, const void* from, size_t bytes);

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_MEMORY_GUARD_H_
