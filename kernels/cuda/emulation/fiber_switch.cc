// Switching between stacks, announced to the address sanitizer. Ten times faster than ucontext,
// which makes a system call for the signal mask.
#include "kernels/cuda/emulation/fiber_switch.h"

#include <cstdint>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the System V ABI's callee-saved registers, swaps stacks, restores.
extern "C" void baram_emulation_switch(void** save_stack_pointer, void* stack_pointer);
asm(R"(
.text
.globl baram_emulation_switch
.type baram_emulation_switch, @function
baram_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size baram_emulation_switch, .-baram_emulation_switch
)");

namespace baram::cuda::emulation {
namespace {

constexpr int kSavedRegisters = 6;

}  // namespace

void PrepareStack(StackContext* context, void* bottom, size_t bytes, void (*entry)()) {
  auto top = reinterpret_cast<uintptr_t>(bottom) + bytes;
  top = top / 16 * 16;
  // A function starts 8 bytes below a multiple of 16, where the return address would be.
  auto* slots = reinterpret_cast<uintptr_t*>(top) - 2 - kSavedRegisters;
  for (int i = 0; i < kSavedRegisters; ++i) slots[i] = 0;
  slots[kSavedRegisters] = reinterpret_cast<uintptr_t>(entry);
  slots[kSavedRegisters + 1] = 0;
  *context = {slots, bottom, bytes, nullptr};
}

#ifdef __SANITIZE_ADDRESS__

void SwitchStack(StackContext* from, StackContext* to, bool from_ends) {
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from->fake_stack, to->bottom, to->bytes);
  baram_emulation_switch(&from->stack_pointer, to->stack_pointer);
  __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
}

void FinishFirstSwitch(StackContext* caller) {
  const void* bottom = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &caller->bytes);
  caller->bottom = const_cast<void*>(bottom);
}

#else

void SwitchStack(StackContext* from, StackContext* to, bool) {
  baram_emulation_switch(&from->stack_pointer, to->stack_pointer);
}

void FinishFirstSwitch(StackContext*) {}

#endif

}  // namespace baram::cuda::emulation
