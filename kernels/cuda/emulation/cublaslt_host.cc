// cublaslt.h without a GPU. By default there is no library, as on a machine that lacks it; tests
// may request a stand-in, which computes what the library's documentation specifies.
#include "kernels/check.h"
#include "kernels/cuda/algorithm_table.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/emulation/streams.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/portability.h"

namespace baram::cuda {
namespace {

bool has_cublaslt = false;
bool refuses_products = false;
bool refuses_other_rows = false;
constexpr Error kRefusal = "the emulation refuses products";
constexpr Error kOtherRows = "the emulation's algorithm is for other rows";

// An algorithm of the stand-in is just the rows it was requested for.
struct Algorithm {
  int64_t rows = 0;
};

struct MultiplyLaunch {
  GemmArgs args;
  int64_t weight_stride;
};

// One block per row, one thread per column or several.
void MultiplyKernel(MultiplyLaunch launch) {
  WaitForPrevious();
  const GemmArgs& args = launch.args;
  const int64_t row = blockIdx.x;
  const auto* weight = static_cast<const uint16_t*>(args.weight.data);
  for (int64_t column = threadIdx.x; column < args.out.cols; column += blockDim.x) {
    float sum = 0;
    for (int64_t i = 0; i < args.a.cols; ++i) {
      sum += F32FromBF16(args.a.Row<uint16_t>(row)[i]) *
             F32FromBF16(weight[column * launch.weight_stride + i]);
    }
    sum *= args.scale;
    if (args.bias != nullptr) sum += args.bias[column];
    StoreElement(args.out.data, args.out.dtype, row * args.out.stride + column, sum);
  }
}

void StartProduct(const GemmArgs& args, Stream stream) {
  const auto is_wide = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  Check(is_wide(args.a.data) && is_wide(args.weight.data) && is_wide(args.out.data) &&
            is_wide(args.bias) && args.a.stride % 8 == 0 &&
            args.out.stride * DTypeBytes(args.out.dtype) % 16 == 0,
        "the library is given what its algorithms were chosen for");
  Check(args.bias == nullptr || args.out.dtype == DType::kF32,
        "the library's bias has the type of its result");
  constexpr uint32_t kThreads = 32;
  Launch(MultiplyKernel, {static_cast<uint32_t>(args.a.rows)}, {kThreads}, 0, {stream, false},
         MultiplyLaunch{args, PackedStride(args.weight.shape)});
}

}  // namespace

void emulation::OfferCublasLt() { has_cublaslt = true; }
void emulation::RefuseProducts(bool refuse) { refuses_products = refuse; }
void emulation::RefuseOtherRows(bool refuse) { refuses_other_rows = refuse; }

struct CublasLt::State {
  AlgorithmTable<Algorithm> algorithms;
};

std::unique_ptr<CublasLt> CublasLt::Open(void*, std::string* error) {
  error->clear();
  if (has_cublaslt) return std::unique_ptr<CublasLt>(new CublasLt(std::make_unique<State>()));
  *error = "the emulation has no cuBLASLt";
  return nullptr;
}
CublasLt::CublasLt(std::unique_ptr<State> state) : state_(std::move(state)) {}
CublasLt::~CublasLt() = default;

void CublasLt::SetMostRows(int64_t rows) { state_->algorithms.SetMostRows(rows); }

Error CublasLt::Refusal(const GemmArgs& args) const {
  return state_->algorithms.Refusal(KindOf(args), args.a.rows);
}

Error CublasLt::Multiply(const GemmArgs& args, bool in_capture, Stream stream) {
  const auto ask = [](const ProductKind& kind) {
    return AlgorithmTable<Algorithm>::Found{.algorithm = {kind.rows}};
  };
  const auto run = [&](const Algorithm& algorithm) -> Error {
    if (refuses_products) return kRefusal;
    if (refuses_other_rows && algorithm.rows != args.a.rows) return emulation::Failed(kOtherRows);
    StartProduct(args, stream);
    return nullptr;
  };
  return state_->algorithms.Multiply(KindOf(args), args.a.rows, in_capture, ask, run);
}

}  // namespace baram::cuda
