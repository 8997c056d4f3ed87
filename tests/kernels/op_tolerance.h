// How far an op's output may be from ref's, element by element: derived from the rounding of its
// types and the length of its sums, never from what some device happens to achieve.
#ifndef BARAM_TESTS_KERNELS_OP_TOLERANCE_H_
#define BARAM_TESTS_KERNELS_OP_TOLERANCE_H_

#include <string>
#include <vector>

#include "tests/kernels/op_bed.h"
#include "tests/kernels/op_cases.h"

namespace baram::testing {

// Whether Tolerance needs ref's outcome for the magnitudes of the case.
bool NeedsMagnitudes(const OpCase& op_case);

// One bound per element of ref.outputs[index].
std::vector<float> Tolerance(const OpCase& op_case, const ElementTypes& types, const Outcome& ref,
                             const Outcome& magnitudes, size_t index);

// Empty, or how a device's results differ from ref's. Ids, ranks and alternatives must be equal.
std::string CompareResults(const SampleCase& c, const std::vector<TokenResult>& got,
                           const std::vector<TokenResult>& want);

}  // namespace baram::testing

#endif  // BARAM_TESTS_KERNELS_OP_TOLERANCE_H_
