// Warp collectives as meetings of lanes: shuffles, ballots, tensor-core products, matrix loads.
#ifndef BARAM_KERNELS_CUDA_EMULATION_COLLECTIVES_H_
#define BARAM_KERNELS_CUDA_EMULATION_COLLECTIVES_H_

#include <cstdint>
#include <source_location>

#include "kernels/check.h"
#include "kernels/cuda/emulation/emulator.h"

namespace baram::cuda::emulation {

inline void CheckAligned(const void* address, uintptr_t bytes) {
  Check(reinterpret_cast<uintptr_t>(address) % bytes == 0, "a vector is aligned to its size");
}

inline void SyncWarp(uint32_t mask, std::source_location where) {
  MeetWarp(
      mask, nullptr, nullptr, [](const WarpMeeting&) {}, where);
}

template <typename T>
T Shuffle(uint32_t mask, T value, int source, std::source_location where) {
  struct Offer {
    T value;
    int source;
  };
  const Offer offer{value, source};
  T result = value;
  const auto combine = [](const WarpMeeting& meeting) {
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      if (meeting.in[lane] == nullptr) continue;
      const int from = static_cast<const Offer*>(meeting.in[lane])->source;
      Check(from >= 0 && from < kWarpLanes && meeting.in[from] != nullptr,
            "a shuffle reads from a lane that takes part");
      *static_cast<T*>(meeting.out[lane]) = static_cast<const Offer*>(meeting.in[from])->value;
    }
  };
  MeetWarp(mask, &offer, &result, combine, where);
  return result;
}

uint32_t Ballot(uint32_t mask, bool holds, std::source_location where);
// The layouts are in instructions.h.
void MmaBf16(uint32_t mask, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
             std::source_location where);
void LoadMatrices(uint32_t mask, uint32_t (&out)[4], const void* row, bool transposed,
                  std::source_location where);

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_COLLECTIVES_H_
