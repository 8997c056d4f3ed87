// op_test on the CUDA device over its emulation: every kernel runs its cases under the sanitizers,
// with rows that allow wide vectors and rows that do not, in two orders of the threads.
#include <variant>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulation/emulator.h"
#include "tests/kernels/op_families.h"

namespace baram::test {
namespace {

// Fibers are slow: what differs in nothing but size from a smaller case runs on a GPU only.
constexpr int64_t kMostElements = 1 << 20;

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
  bool operator()(const GemmCase& c) const { return c.rows * c.n * c.k <= kMostElements; }
  bool operator()(const StoreKvCase&) const { return false; }
  bool operator()(const AttendCase&) const { return false; }
  bool operator()(const SampleCase&) const { return false; }
  bool operator()(const auto&) const { return true; }
};

}  // namespace

std::vector<Family> TestedFamilies() {
  cuda::emulation::SetLaneOrder(cuda::emulation::LaneOrder::kShuffled);
  std::vector<Family> families;
  families.push_back(OpenFamily(5));  // rows begin anywhere
  families.push_back(OpenFamily(8));  // rows of multiples of 8 elements begin at 16 bytes
  return families;
}

std::vector<OpCase> TestedCases() {
  std::vector<OpCase> cases = OpCases();
  std::erase_if(cases, [](const OpCase& c) { return !std::visit(IsSmall(), c.spec); });
  return cases;
}

}  // namespace baram::test
