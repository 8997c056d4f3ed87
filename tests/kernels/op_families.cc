// Beds on devices under test, and on their ref.
#include "tests/kernels/op_families.h"

#include <utility>

namespace baram::testing {

void AddBed(Family& family, const std::string& name, std::unique_ptr<Device> device,
            const OpBed::Limits& limits) {
  if (device == nullptr) return;
  Bed bed{name, std::move(device), nullptr};
  family.types = TypesOf(bed.device->Info());
  bed.bed = std::make_unique<OpBed>(*bed.device, family.types, limits);
  family.beds.push_back(std::move(bed));
}

void AddRef(Family& family, const OpBed::Limits& limits) {
  std::string error;
  family.ref_device = OpenDevice("ref", {}, &error);
  family.ref = std::make_unique<OpBed>(*family.ref_device, family.types, limits);
}

}  // namespace baram::testing
