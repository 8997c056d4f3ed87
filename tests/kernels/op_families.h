// The devices on which op_test runs the cases. Each binary built from op_test.cc has its own list.
#ifndef BARAM_TESTS_KERNELS_OP_FAMILIES_H_
#define BARAM_TESTS_KERNELS_OP_FAMILIES_H_

#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "tests/kernels/op_bed.h"
#include "tests/kernels/op_cases.h"

namespace baram::testing {

struct Bed {
  std::string name;
  std::unique_ptr<Device> device;
  std::unique_ptr<OpBed> bed;
};

// Devices that promise the same bits, and ref with inputs rounded to their types.
struct Family {
  ElementTypes types;
  std::unique_ptr<Device> ref_device;
  std::unique_ptr<OpBed> ref;
  std::vector<Bed> beds;
};

// Adds a bed of `device`; adds none if it is null, i.e. not built or not available on this machine.
void AddBed(Family& family, const std::string& name, std::unique_ptr<Device> device,
            const OpBed::Limits& limits);
// Gives the family its ref, after all beds were added.
void AddRef(Family& family, const OpBed::Limits& limits = {});

// This binary's devices and cases.
std::vector<Family> TestedFamilies();
std::vector<OpCase> TestedCases();

}  // namespace baram::testing

#endif  // BARAM_TESTS_KERNELS_OP_FAMILIES_H_
