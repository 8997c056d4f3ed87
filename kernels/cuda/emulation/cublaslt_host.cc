// cublaslt.h where there is no GPU: products take the path of machines without the library.
#include "kernels/check.h"
#include "kernels/cuda/cublaslt.h"

namespace baram::cuda {

struct CublasLt::State {};

std::unique_ptr<CublasLt> CublasLt::Open(void*, std::string* error) {
  *error = "the emulation has no cuBLASLt";
  return nullptr;
}
CublasLt::CublasLt(std::unique_ptr<State> state) : state_(std::move(state)) {}
CublasLt::~CublasLt() = default;

bool CublasLt::Multiply(const GemmArgs&, Stream) { Fatal("the emulation has no cuBLASLt"); }

}  // namespace baram::cuda
