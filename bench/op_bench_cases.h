// What op_bench measures: sets of cases for the kinds of machines that serve models.
#ifndef BARAM_BENCH_OP_BENCH_CASES_H_
#define BARAM_BENCH_OP_BENCH_CASES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "bench/roofs.h"
#include "tests/kernels/op_bed.h"
#include "tests/kernels/op_cases.h"

namespace baram::bench {

struct CaseSet {
  std::vector<testing::OpCase> cases;
  testing::OpBed::Limits limits;
  // Bytes of all copies of what must come from memory: more than twice the largest cache.
  int64_t cold_bytes = 0;
  GpuRoofSizes roofs;
};

// "host": shapes of 1B models at batches a CPU serves. "decode": a host's decode attention by head,
// group, context and batch. "gpu": shapes of 8B models at a GPU's batches. "smoke": a few of the
// smallest, for trying the program out.
bool FindCaseSet(const std::string& name, CaseSet* set);

}  // namespace baram::bench

#endif  // BARAM_BENCH_OP_BENCH_CASES_H_
