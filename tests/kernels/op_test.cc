// The rows of the case table on this binary's devices (op_families.h): close to ref, within their
// memory, repeatable, and the same bits for every batch, number of threads and instruction set if
// the device promises that (I10, I14).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <set>

#include "kernels/shape_check.h"
#include "tests/kernels/op_bed.h"
#include "tests/kernels/op_cases.h"
#include "tests/kernels/op_families.h"
#include "tests/kernels/op_tolerance.h"

namespace baram::testing {

// Failures name a case; its fields are in the table.
void PrintTo(const OpCase& op_case, std::ostream* os) { *os << op_case.name; }

namespace {

std::vector<Family>& Families() {
  static std::vector<Family> families = TestedFamilies();
  return families;
}

// Empty, or the first difference in bits. `part` may hold only some of the rows and outputs of
// `whole`.
std::string BitDifference(const Outcome& part, const Outcome& whole, int64_t first_result) {
  for (const Output& output : part.outputs) {
    for (const Output& other : whole.outputs) {
      if (other.name != output.name) continue;
      for (int64_t r = 0; r < output.rows; ++r) {
        const float* a = output.Row(r);
        const float* b = other.Row(output.first_row + r - other.first_row);
        for (int64_t c = 0; c < output.cols; ++c) {
          if (std::memcmp(a + c, b + c, sizeof(float)) == 0) continue;
          return output.name + "[" + std::to_string(output.first_row + r) + ", " +
                 std::to_string(c) + "]: " + std::to_string(a[c]) + " and " + std::to_string(b[c]);
        }
      }
    }
  }
  for (size_t round = 0; round < part.results.size(); ++round) {
    for (size_t i = 0; i < part.results[round].size(); ++i) {
      const TokenResult& a = part.results[round][i];
      const TokenResult& b = whole.results[round][first_result + i];
      const bool same =
          a.token == b.token && a.flags == b.flags && a.rank == b.rank &&
          a.top_count == b.top_count && std::memcmp(&a.logprob, &b.logprob, sizeof(float)) == 0 &&
          std::equal(a.top_ids, a.top_ids + a.top_count, b.top_ids) &&
          std::memcmp(a.top_logprobs, b.top_logprobs, a.top_count * sizeof(float)) == 0;
      if (!same) {
        return "result " + std::to_string(first_result + i) + " of round " + std::to_string(round);
      }
    }
  }
  return "";
}

// Single rows, and the batch in two parts: at borders that a kernel's tiles would not choose.
std::vector<RowRange> Cuts(int64_t rows) {
  if (rows < 2) return {};
  std::set<int64_t> alone = {0, 1, rows / 2, rows - 1};
  std::vector<RowRange> cuts = {{0, rows / 2 + 1}, {rows / 2 + 1, rows}};
  for (int64_t row : alone) cuts.push_back({row, row + 1});
  std::erase_if(cuts, [](const RowRange& cut) { return cut.begin >= cut.end; });
  return cuts;
}

void ExpectNear(const OpCase& op_case, const Family& family, const Outcome& got, const Outcome& ref,
                const Outcome& magnitudes) {
  ASSERT_EQ(got.outputs.size(), ref.outputs.size());
  for (size_t i = 0; i < ref.outputs.size(); ++i) {
    const Output& output = ref.outputs[i];
    const std::vector<float> tolerance = Tolerance(op_case, family.types, ref, magnitudes, i);
    double errors = 0, bounds = 0;  // sums of squares
    for (size_t j = 0; j < output.values.size(); ++j) {
      const float difference = std::fabs(got.outputs[i].values[j] - output.values[j]);
      ASSERT_TRUE(std::isfinite(output.values[j])) << "ref's " << output.name << " is not finite";
      ASSERT_LE(difference, tolerance[j])  // false for NaN
          << output.name << "[" << j / output.cols << ", " << j % output.cols
          << "] = " << got.outputs[i].values[j] << ", ref " << output.values[j];
      errors += double{difference} * difference;
      bounds += double{tolerance[j]} * tolerance[j];
    }
    // A key's bound assumes that it is large and that all roundings agree.
    if (output.name == "k") {
      ASSERT_LE(std::sqrt(errors), std::sqrt(bounds) / 4) << "the keys as a whole";
    }
  }
  const auto* sample = std::get_if<SampleCase>(&op_case.spec);
  ASSERT_EQ(got.results.size(), ref.results.size());
  for (size_t round = 0; round < ref.results.size(); ++round) {
    ASSERT_EQ(CompareResults(*sample, got.results[round], ref.results[round]), "");
  }
}

class OpTest : public ::testing::TestWithParam<OpCase> {};

TEST_P(OpTest, IsCloseToRefAndExact) {
  const OpCase& op_case = GetParam();
  for (Family& family : Families()) {
    if (family.beds.empty()) continue;
    const Outcome ref = family.ref->Run(op_case);
    const Outcome magnitudes =
        NeedsMagnitudes(op_case) ? family.ref->Run(op_case, {}, true) : Outcome();
    Outcome first;
    for (Bed& bed : family.beds) {
      SCOPED_TRACE(bed.name);
      ASSERT_EQ(bed.device->Unsupported(bed.bed->Prepare(op_case).args), "");
      Outcome whole = bed.bed->Run(op_case);
      ASSERT_EQ(whole.broken, "");
      if (&bed == &family.beds.front()) {
        ASSERT_NO_FATAL_FAILURE(ExpectNear(op_case, family, whole, ref, magnitudes));
        first = whole;
      }
      ASSERT_EQ(BitDifference(whole, first, 0), "") << "from " << family.beds.front().name;
      ASSERT_EQ(BitDifference(bed.bed->Run(op_case), whole, 0), "") << "when repeated";
      if (!bed.device->Info().exact) continue;
      for (const RowRange& cut : Cuts(CaseRows(op_case))) {
        const Outcome part = bed.bed->Run(op_case, cut);
        ASSERT_EQ(part.broken, "");
        ASSERT_EQ(BitDifference(part, whole, cut.begin), "")
            << "with rows " << cut.begin << " to " << cut.end << " alone";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, OpTest, ::testing::ValuesIn(TestedCases()),
                         [](const auto& info) { return info.param.name; });

#ifndef NDEBUG
// No default-constructed argument has a valid shape. One device per family: all share the entry
// code.
TEST(OpTestDeathTest, EveryOpChecksItsShapes) {
  for (Family& family : Families()) {
    if (family.beds.empty()) continue;
    Device& device = *family.beds.front().device;
    SCOPED_TRACE(device.Info().name);
    for (const OpArgs& args : {OpArgs(EmbedArgs()), OpArgs(NormArgs()), OpArgs(AddNormArgs()),
                               OpArgs(GemmArgs()), OpArgs(StoreKvArgs()), OpArgs(AttendArgs()),
                               OpArgs(ActArgs()), OpArgs(GatherRowsArgs()), OpArgs(SampleArgs())}) {
      EXPECT_DEATH(IssueOp(device, args), CheckShapes(args));
    }
  }
}
#endif

// Names the devices on which the cases ran: a machine without AMX must not appear to have tested
// it.
TEST(OpTestDevices, AreNamed) {
  std::string names;
  for (const Family& family : Families()) {
    for (const Bed& bed : family.beds) names += bed.name + "; ";
  }
  std::printf("devices: %s\n", names.c_str());
  EXPECT_FALSE(names.empty());
}

}  // namespace
}  // namespace baram::testing
