// Switching between stacks, on which the emulation's fibers are built. x86-64 only.
#ifndef BARAM_KERNELS_CUDA_EMULATION_FIBER_SWITCH_H_
#define BARAM_KERNELS_CUDA_EMULATION_FIBER_SWITCH_H_

#include <cstddef>

namespace baram::cuda::emulation {

// A stack that is not running. Plain data; does not own the stack.
struct StackContext {
  void* stack_pointer = nullptr;
  void* bottom = nullptr;  // lowest address of the stack
  size_t bytes = 0;
  void* fake_stack = nullptr;  // of the address sanitizer, while suspended
};

// Makes `context` start in `entry`, which must never return, on the given stack.
void PrepareStack(StackContext* context, void* bottom, size_t bytes, void (*entry)());

// Suspends `from`, the running one, and resumes `to`. Returns when a switch back to `from` is made.
// `from_ends`: there will be none.
void SwitchStack(StackContext* from, StackContext* to, bool from_ends);

// To be called first in an entry function. Sets the bounds of the stack it came from in `caller`.
void FinishFirstSwitch(StackContext* caller);

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_FIBER_SWITCH_H_
