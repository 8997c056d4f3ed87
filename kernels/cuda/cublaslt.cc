// cuBLASLt through dlopen: its functions by name, one algorithm per kind of product.
//
// The library is column-major: what we call out [rows, n] is its D [n, rows], computed as op(A) B
// with A = W, transposed, and B = a. Its bias runs along the rows of D, our columns.
#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <utility>

#include "kernels/cuda/algorithm_table.h"
#include "kernels/cuda/pack.h"

namespace baram::cuda {
namespace {

constexpr size_t kMajor = CUBLAS_VER_MAJOR;
constexpr uint32_t kAlignment = 16;  // bytes; SelectGemm guarantees it for all operands

// Every function that is called, as the header declares it.
struct Library {
  decltype(&cublasLtGetVersion) get_version;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmulDescInit_internal) init_desc;
  decltype(&cublasLtMatmulDescSetAttribute) set_desc;
  decltype(&cublasLtMatrixLayoutInit_internal) init_layout;
  decltype(&cublasLtMatmulPreferenceInit_internal) init_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference;
};

// The library is never closed: its state on the GPU would go with it.
std::string Load(Library* library) {
  void* handle = nullptr;
  std::string missing;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so"}) {
    handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) break;
    if (missing.empty()) missing = dlerror();
  }
  if (handle == nullptr) return "cuBLASLt of CUDA 13 is missing: " + missing;
  std::string absent;
  const auto find = [&](const char* name, auto* function) {
    *function = reinterpret_cast<std::remove_reference_t<decltype(*function)>>(dlsym(handle, name));
    if (*function == nullptr) absent = name;
  };
  find("cublasLtGetVersion", &library->get_version);
  find("cublasLtGetStatusString", &library->status_string);
  find("cublasLtCreate", &library->create);
  find("cublasLtDestroy", &library->destroy);
  find("cublasLtMatmul", &library->matmul);
  find("cublasLtMatmulAlgoGetHeuristic", &library->heuristic);
  find("cublasLtMatmulDescInit_internal", &library->init_desc);
  find("cublasLtMatmulDescSetAttribute", &library->set_desc);
  find("cublasLtMatrixLayoutInit_internal", &library->init_layout);
  find("cublasLtMatmulPreferenceInit_internal", &library->init_preference);
  find("cublasLtMatmulPreferenceSetAttribute", &library->set_preference);
  if (!absent.empty()) return "the cuBLASLt found has no " + absent;
  const size_t version = library->get_version();
  if (version / 10000 != kMajor) {
    return "the cuBLASLt found is of version " + std::to_string(version / 10000) +
           "; this binary needs " + std::to_string(kMajor);
  }
  return "";
}

using Algorithms = AlgorithmTable<cublasLtMatmulAlgo_t>;

constexpr Error kIndescribable = "the library refuses its description";
constexpr Error kNoAlgorithm = "the library has no algorithm for it";

cudaDataType TypeOf(DType type) { return type == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF; }

}  // namespace

struct CublasLt::State {
  Library library = {};
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  Algorithms algorithms;

  ~State() {
    if (handle != nullptr) library.destroy(handle);
  }
};

namespace {

// A product's descriptors for the library. Lives on the stack.
struct Product {
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t weight;
  cublasLtMatrixLayoutOpaque_t a;
  cublasLtMatrixLayoutOpaque_t out;

  // False: the library rejects a part of it.
  bool Describe(const Library& library, const ProductKind& kind, int64_t rows, const float* bias) {
    bool ok = true;
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
      ok = ok && library.set_desc(&desc, attribute, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
    };
    const auto lay = [&](cublasLtMatrixLayoutOpaque_t* layout, cudaDataType type, int64_t r,
                         int64_t c, int64_t stride) {
      ok = ok && library.init_layout(layout, sizeof(*layout), type, r, c, stride) ==
                     CUBLAS_STATUS_SUCCESS;
    };
    ok = library.init_desc(&desc, sizeof(desc), CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
         CUBLAS_STATUS_SUCCESS;
    set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
    if (kind.has_bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_BIAS});
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{CUDA_R_32F});
    }
    const WeightShape shape{kind.n, kind.k, {}};
    lay(&weight, CUDA_R_16BF, kind.k, kind.n, PackedStride(shape));
    lay(&a, CUDA_R_16BF, kind.k, rows, kind.a_stride);
    lay(&out, TypeOf(kind.out), kind.n, rows, kind.out_stride);
    return ok;
  }
};

Algorithms::Found FindAlgorithm(const Library& library, cublasLtHandle_t handle,
                                const ProductKind& kind, const float* bias) {
  Product product;
  if (!product.Describe(library, kind, kind.rows, bias)) return {kIndescribable};
  cublasLtMatmulPreferenceOpaque_t preference;
  bool ok = library.init_preference(&preference, sizeof(preference)) == CUBLAS_STATUS_SUCCESS;
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    ok = ok && library.set_preference(&preference, attribute, &value, sizeof(value)) ==
                   CUBLAS_STATUS_SUCCESS;
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, size_t{CublasLt::kWorkspaceBytes});
  // Parts of k are added in fp32 and in a fixed order, never in the type of the result.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  for (auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    prefer(attribute, kAlignment);
  }
  if (!ok) return {kIndescribable};
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  const cublasStatus_t status =
      library.heuristic(handle, &product.desc, &product.weight, &product.a, &product.out,
                        &product.out, &preference, 1, &found, &count);
  if (status != CUBLAS_STATUS_SUCCESS) return {library.status_string(status)};
  if (count == 0) return {kNoAlgorithm};
  if (found.state != CUBLAS_STATUS_SUCCESS) return {library.status_string(found.state)};
  return {nullptr, found.algo};
}

}  // namespace

std::unique_ptr<CublasLt> CublasLt::Open(void* workspace, std::string* error) {
  auto state = std::make_unique<State>();
  *error = Load(&state->library);
  if (!error->empty()) return nullptr;
  state->workspace = workspace;
  const cublasStatus_t status = state->library.create(&state->handle);
  if (status != CUBLAS_STATUS_SUCCESS) {
    state->handle = nullptr;
    *error = std::string("cuBLASLt does not start: ") + state->library.status_string(status);
    return nullptr;
  }
  return std::unique_ptr<CublasLt>(new CublasLt(std::move(state)));
}

CublasLt::CublasLt(std::unique_ptr<State> state) : state_(std::move(state)) {}
CublasLt::~CublasLt() = default;

void CublasLt::SetMostRows(int64_t rows) { state_->algorithms.SetMostRows(rows); }

Error CublasLt::Multiply(const GemmArgs& args, bool in_capture, Stream stream) {
  const Library& library = state_->library;
  const ProductKind kind = KindOf(args);
  const auto ask = [&](const ProductKind& asked) {
    return FindAlgorithm(library, state_->handle, asked, args.bias);
  };
  const auto run = [&](const cublasLtMatmulAlgo_t& algorithm) -> Error {
    Product product;
    if (!product.Describe(library, kind, args.a.rows, args.bias)) return kIndescribable;
    const float beta = 0;
    const cublasStatus_t status = library.matmul(
        state_->handle, &product.desc, &args.scale, args.weight.data, &product.weight, args.a.data,
        &product.a, &beta, args.out.data, &product.out, args.out.data, &product.out, &algorithm,
        state_->workspace, kWorkspaceBytes, stream);
    return status == CUBLAS_STATUS_SUCCESS ? nullptr : library.status_string(status);
  };
  return state_->algorithms.Multiply(kind, args.a.rows, in_capture, ask, run);
}

Error CublasLt::Refusal(const GemmArgs& args) const {
  return state_->algorithms.Refusal(KindOf(args), args.a.rows);
}

}  // namespace baram::cuda
