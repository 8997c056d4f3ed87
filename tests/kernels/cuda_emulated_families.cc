// op_test on the emulated CUDA device: every kernel runs its cases under the sanitizers, with rows
// that allow wide vectors and rows that do not, in two thread orders.
#include <variant>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulation/emulator.h"
#include "tests/kernels/op_families.h"

namespace baram::testing {
namespace {

// Fibers are slow: a case that differs only in size from a smaller one runs on a GPU only.
// cuda_op_cases_test lists what is left out.
constexpr int64_t kMaxElements = 1 << 20;
constexpr int64_t kMaxCached = 1 << 17;  // elements of keys

std::string Show(int64_t gap) { return "cuda emulated, gap=" + std::to_string(gap); }

Family OpenFamily(int64_t gap) {
  Family family;
  std::string error;
  OpBed::Limits limits;
  limits.gap_elements = gap;
  AddBed(family, Show(gap), OpenCudaDevice({}, &error), limits);
  AddRef(family);
  return family;
}

struct IsSmall {
  bool operator()(const GemmCase& c) const { return c.rows * c.n * c.k <= kMaxElements; }
  // Reading the keys back takes an Attend for every element of a head.
  bool operator()(const StoreKvCase& c) const {
    return c.head.heads * c.head.head_dim <= 48 || (c.head.head_dim == 64 && c.head.kv_heads == 1);
  }
  // cuda_attend_test has every kernel; these go through the device and StoreKv.
  bool operator()(const AttendCase& c) const {
    if (c.chunks.size() > 1) return c.window == 7;
    const Chunk& chunk = c.chunks[0];
    return (chunk.context + chunk.count) * int64_t{c.head.kv_heads} * c.head.head_dim <= kMaxCached;
  }
  bool operator()(const SampleCase& c) const {
    const LogitKind kind = c.rows[0].logits;
    return c.vocab <= 100 || kind == LogitKind::kTail || kind == LogitKind::kPlateau ||
           (c.vocab <= 2051 && (kind == LogitKind::kNormal || kind == LogitKind::kFlat));
  }
  bool operator()(const auto&) const { return true; }
};

}  // namespace

std::vector<Family> TestedFamilies() {
  cuda::emulation::SetLaneOrder(cuda::emulation::LaneOrder::kShuffled);
  std::vector<Family> families;
  families.push_back(OpenFamily(5));  // rows start anywhere
  families.push_back(OpenFamily(8));  // rows of multiples of 8 elements start at 16-byte boundaries
  return families;
}

std::vector<OpCase> TestedCases() {
  std::vector<OpCase> cases = OpCases();
  std::erase_if(cases, [](const OpCase& c) { return !std::visit(IsSmall(), c.spec); });
  return cases;
}

}  // namespace baram::testing
