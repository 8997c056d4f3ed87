// The case table of the ops: every row is one op with shapes, types and options. It drives the
// comparison with ref, the guard zones, repeatability, the invariances, and op_bench.
#ifndef BARAM_TESTS_KERNELS_OP_CASES_H_
#define BARAM_TESTS_KERNELS_OP_CASES_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "kernels/ops.h"
#include "kernels/step.h"

namespace baram::testing {

// A tensor's purpose; the device decides its type.
enum class Role { kActivation, kResidual, kF32 };

struct GemmCase {
  int64_t rows, n, k;
  Role out = Role::kActivation;
  bool bias = false;
  float scale = 1.0f;
};

struct NormCase {
  int64_t rows, d;
  Role x = Role::kActivation;
  Role out = Role::kActivation;
};

struct AddNormCase {
  int64_t rows, d;
  bool post = false;
  bool pre = true;
  float scale = 1.0f;
  Role branch = Role::kResidual;
};

struct ActCase {
  int64_t rows, f;
  Activation kind = Activation::kSilu;
};

struct EmbedCase {
  int32_t tokens;
  int64_t vocab, d;
  float scale = 1.0f;
  Role out = Role::kResidual;
};

struct GatherRowsCase {
  int64_t from, rows, d;
  Role type = Role::kResidual;
};

// One sequence's share of a step: `count` tokens after `context` earlier ones.
struct Chunk {
  int32_t context;
  int32_t count;
};

struct StoreKvCase {
  HeadShape head;
  int32_t page_tokens;
  std::vector<Chunk> chunks;
  bool q_norm = false;
  bool k_norm = false;
  int32_t rotary_dim = 0;  // 0: no rotation
  RopeLayout layout = RopeLayout::kHalfSplit;
};

struct AttendCase {
  HeadShape head;
  int32_t page_tokens;
  std::vector<Chunk> chunks;
  int32_t window = 0;
  int32_t layers = 1;  // of the pool; the last one is read
};

enum class LogitKind {
  kNormal,     // standard deviation 3
  kTies,       // few distinct values
  kHoles,      // a third is -infinity
  kFlat,       // all equal
  kPlateau,    // three are the largest, two thirds are equal and smaller, the rest lower still
  kTail,       // the last five are equal, and far above the others
  kNaN,        // one NaN
  kInfinite,   // one +infinity
  kAllMasked,  // nothing above -infinity
};

// A target: the first token past the vocabulary.
inline constexpr int32_t kPastVocab = 1 << 30;

// One row of logits and the slot it belongs to.
struct SampleRow {
  SamplingParams sampling;
  LogitKind logits = LogitKind::kNormal;
  std::vector<int32_t> prompt = {1};
  std::vector<int32_t> output;
  std::vector<TokenBias> bias;
  std::vector<int32_t> stop_ids;
  int32_t target = -1;      // score this token instead of drawing; may be kPastVocab
  int32_t allow_every = 0;  // grammar mask: multiples of this; 0: no mask; -1: nothing
};

struct SampleCase {
  int32_t vocab;    // valid_vocab
  int32_t columns;  // of the logits; those past vocab hold NaN
  std::vector<SampleRow> rows;
  int32_t rounds = 1;  // steps with the same logits; counts and lengths advance
};

using OpSpec = std::variant<GemmCase, NormCase, AddNormCase, ActCase, EmbedCase, GatherRowsCase,
                            StoreKvCase, AttendCase, SampleCase>;

struct OpCase {
  std::string name;  // unique; letters, digits and underscores
  OpSpec spec;
};

std::vector<OpCase> OpCases();

// The number of rows (tokens for attention, outputs for Sample) by which a batch can be cut.
int64_t CaseRows(const OpCase& op_case);

}  // namespace baram::testing

#endif  // BARAM_TESTS_KERNELS_OP_CASES_H_
