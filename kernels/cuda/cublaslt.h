// NVIDIA's matrix products for many rows: cuBLASLt, opened at run time, so that the binary starts
// without it. There are two implementations: cublaslt.cc, and emulation/cublaslt_host.cc for tests.
#ifndef BARAM_KERNELS_CUDA_CUBLASLT_H_
#define BARAM_KERNELS_CUDA_CUBLASLT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace baram::cuda {

// Owned by the device, called by the executor thread. bf16 in, bf16 or f32 out, fp32 sums.
class CublasLt {
 public:
  // Memory that its kernels may use, aligned to 256 bytes. NVIDIA's advice for Hopper.
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  // For the current GPU. Returns null and a sentence for the operator if the library is missing,
  // has the wrong version or does not start.
  static std::unique_ptr<CublasLt> Open(void* workspace, std::string* error);
  ~CublasLt();

  // The largest number of rows of a step. Once, before the first step.
  void SetMostRows(int64_t rows);

  // out = scale * a W^T + bias for shapes that SelectGemm gives it. Not null: why the library
  // rejects products of this kind and these rows, permanently unless `in_capture` (see
  // AlgorithmTable::Multiply); nothing was started. The first product of a kind queries the library
  // for algorithms, for all other numbers of rows as well, which takes host time: warm-up runs
  // every kind.
  Error Multiply(const GemmArgs& args, bool in_capture, Stream stream);
  // What Multiply would return, as far as is known. Null: not known to be rejected.
  Error Refusal(const GemmArgs& args) const;

 private:
  struct State;
  explicit CublasLt(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_CUBLASLT_H_
