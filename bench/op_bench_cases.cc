// The rows of op_bench.
#include "bench/op_bench_cases.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/gemm_select.h"

namespace baram::bench {
namespace {

using testing::OpCase;

std::string Number(int64_t value) { return std::to_string(value); }

void AddSample(int rows, int32_t vocab, std::vector<OpCase>* cases) {
  testing::SampleRow greedy;
  greedy.sampling.temperature = 0;
  testing::SampleRow plain;
  testing::SampleRow filtered;
  filtered.sampling.top_k = 50;
  filtered.sampling.top_p = 0.9f;
  filtered.sampling.logprobs = 5;
  const std::string suffix = "_" + Number(rows) + "x" + Number(vocab);
  const auto add = [&](const char* name, const testing::SampleRow& row) {
    cases->push_back({name + suffix, testing::SampleCase{vocab, vocab, {size_t(rows), row}}});
  };
  add("Sample_greedy", greedy);
  add("Sample_plain", plain);
  add("Sample_filtered", filtered);
}

// Rows as a server sees them: every request has different parameters, some of them many.
void AddMixedSample(int rows, int32_t vocab, std::vector<OpCase>* cases) {
  testing::SampleCase mixed{vocab, vocab, std::vector<testing::SampleRow>(rows)};
  for (int i = 0; i < rows; ++i) {
    SamplingParams& sampling = mixed.rows[i].sampling;
    sampling.seed = i;
    sampling.temperature = i % 4 == 0 ? 0.0f : 0.6f + 0.1f * static_cast<float>(i % 5);
    if (i % 4 == 1) sampling.top_p = 0.9f;
    if (i % 4 == 2) sampling.top_k = 20 + i % 64;
    if (i % 8 == 3) sampling.min_p = 0.05f;
    if (i % 3 == 0) sampling.repetition_penalty = 1.1f;
    if (i % 5 == 0) sampling.frequency_penalty = 0.5f;
    if (i % 6 == 0) sampling.logprobs = 5;
    for (int32_t token = 0; token < 64; ++token) {
      mixed.rows[i].prompt.push_back((token * 1009 + i * 37) % vocab);
    }
    mixed.rows[i].output = {i % vocab, (i * 7 + 1) % vocab};
  }
  cases->push_back({"Sample_mixed_" + Number(rows) + "x" + Number(vocab), std::move(mixed)});
}

// Decode attention over contexts of different lengths, the longest first, with means of some 1024
// and 4096 tokens: spread evenly from 64 to twice the mean, and by Zipf's law, few long and many
// short.
void AddRagged(const HeadShape& head, std::vector<OpCase>* cases) {
  constexpr int kSequences = 64;
  const auto add = [&](const std::string& name, int32_t longest, const auto& context) {
    std::vector<testing::Chunk> chunks;
    for (int i = 0; i < kSequences; ++i) {
      chunks.push_back({std::max(64, static_cast<int32_t>(longest * context(i))) - 1, 1});
    }
    cases->push_back({name, testing::AttendCase{head, 32, std::move(chunks)}});
  };
  const auto even = [](int i) { return 1.0 - static_cast<double>(i) / kSequences; };
  const auto zipf = [](int i) { return 1.0 / (1 + i); };
  add("Attend_decode_even_64x1024", 2048, even);
  add("Attend_decode_even_64x4096", 8192, even);
  add("Attend_decode_zipf_64x1024", 13'800, zipf);  // the mean is 0.0741 of the longest
}

CaseSet HostCases() {
  std::vector<OpCase> cases;
  for (int64_t m : {1, 8, 32, 128, 512}) {
    for (int64_t n : {2048, 8192, 16384}) {
      cases.push_back({"Gemm_" + Number(m) + "x" + Number(n) + "x2048",
                       testing::GemmCase{.rows = m, .n = n, .k = 2048}});
    }
    cases.push_back(
        {"Gemm_" + Number(m) + "x2048x8192", testing::GemmCase{.rows = m, .n = 2048, .k = 8192}});
  }
  const HeadShape head{16, 8, 128};
  const std::vector<testing::Chunk> eight(8, {1023, 1});
  cases.push_back({"Attend_decode_1x1024", testing::AttendCase{head, 32, {{1023, 1}}}});
  cases.push_back({"Attend_decode_8x1024", testing::AttendCase{head, 32, eight}});
  cases.push_back({"Attend_decode_2x4096", testing::AttendCase{head, 32, {{4095, 1}, {4095, 1}}}});
  cases.push_back({"Attend_prefill_512", testing::AttendCase{head, 32, {{0, 512}}}});
  cases.push_back({"Attend_prefill_2048", testing::AttendCase{head, 32, {{0, 2048}}}});
  for (int32_t rows : {1, 512}) {
    const std::string suffix = "_" + Number(rows) + "x2048";
    cases.push_back({"AddNorm" + suffix, testing::AddNormCase{.rows = rows, .d = 2048}});
    cases.push_back({"Norm" + suffix,
                     testing::NormCase{.rows = rows, .d = 2048, .x = testing::Role::kResidual}});
    cases.push_back({"Act" + suffix, testing::ActCase{.rows = rows, .f = 8192}});
    cases.push_back({"StoreKv" + suffix, testing::StoreKvCase{.head = head,
                                                              .page_tokens = 32,
                                                              .chunks = {{0, rows}},
                                                              .q_norm = true,
                                                              .k_norm = true,
                                                              .rotary_dim = 128}});
    cases.push_back({"Embed" + suffix, testing::EmbedCase{rows, 16384, 2048}});
  }
  for (int32_t vocab : {50'000, 128'000}) {
    for (int rows : {1, 8}) AddSample(rows, vocab, &cases);
  }
  return {.cases = std::move(cases),
          .limits = {.memory_bytes = int64_t{1} << 30,
                     .slots = 16,
                     .max_pages_per_slot = 160,
                     .vocab_size = 128'000,
                     .max_step_tokens = 4200,
                     .max_step_outputs = 64},
          .cold_bytes = int64_t{384} << 20,
          .roofs = {}};
}

// The layers of Llama 3.1 8B: hidden size 4096, 14336 inside the feed-forward part, 32 query and 8
// KV heads of 128; and what other models do differently.
CaseSet GpuCases() {
  std::vector<OpCase> cases;
  constexpr int64_t kHidden = 4096, kQkv = 6144, kInner = 14336;
  constexpr int64_t kRows[] = {1, 2, 4, 8, 12, 16, 17, 32, 64, 128, 256, 512, 2048, 8192};
  static_assert(std::ranges::count(kRows, cuda::kMaxSkinnyRows) == 1 &&
                    std::ranges::count(kRows, cuda::kMaxSkinnyRows + 1) == 1,
                "both sides of the limit are measured");
  for (int64_t m : kRows) {
    const auto add = [&](int64_t n, int64_t k) {
      cases.push_back({"Gemm_" + Number(m) + "x" + Number(n) + "x" + Number(k),
                       testing::GemmCase{.rows = m, .n = n, .k = k}});
    };
    add(kQkv, kHidden);
    add(kHidden, kHidden);
    add(2 * kInner, kHidden);
    add(kHidden, kInner);
  }
  for (int64_t m : {32, 2048}) {  // Qwen 2's
    cases.push_back({"Gemm_bias_" + Number(m) + "x4608x3584",
                     testing::GemmCase{.rows = m, .n = 4608, .k = 3584, .bias = true}});
  }
  const HeadShape head{32, 8, 128};
  const auto decode = [&](size_t sequences, int32_t context) {
    cases.push_back(
        {"Attend_decode_" + Number(sequences) + "x" + Number(context),
         testing::AttendCase{head, 32, std::vector<testing::Chunk>(sequences, {context - 1, 1})}});
  };
  for (int32_t context : {1024, 4096, 16384}) decode(1, context);
  decode(32, 1024);
  decode(128, 1024);
  decode(32, 4096);
  decode(8, 16384);
  AddRagged(head, &cases);
  for (const auto& [sequences, context] : {std::pair{1, 4096}, {32, 1024}, {32, 4096}}) {
    // Qwen3 1.7B's: two query heads per KV head, which have a kernel of their own.
    cases.push_back(
        {"Attend_decode_g2_" + Number(sequences) + "x" + Number(context),
         testing::AttendCase{
             {16, 8, 128}, 32, std::vector<testing::Chunk>(sequences, {context - 1, 1})}});
  }
  for (int32_t tokens : {512, 2048, 8192}) {
    cases.push_back(
        {"Attend_prefill_" + Number(tokens), testing::AttendCase{head, 32, {{0, tokens}}}});
  }
  for (const auto& [tokens, context] : {std::pair{2048, 6144}, {16, 65536}, {64, 65536}}) {
    cases.push_back({"Attend_prefill_" + Number(tokens) + "_after_" + Number(context),
                     testing::AttendCase{head, 32, {{context, tokens}}}});
  }
  for (int32_t rows : {1, 32, 256, 8192}) {
    const std::string suffix = "_" + Number(rows) + "x4096";
    cases.push_back({"AddNorm" + suffix, testing::AddNormCase{.rows = rows, .d = kHidden}});
    cases.push_back({"Norm" + suffix,
                     testing::NormCase{.rows = rows, .d = kHidden, .x = testing::Role::kResidual}});
    cases.push_back(
        {"Act_" + Number(rows) + "x14336", testing::ActCase{.rows = rows, .f = kInner}});
    cases.push_back(
        {"StoreKv" + suffix,
         testing::StoreKvCase{
             .head = head, .page_tokens = 32, .chunks = {{0, rows}}, .rotary_dim = 128}});
    cases.push_back({"Embed" + suffix, testing::EmbedCase{rows, 16384, kHidden}});
  }
  for (int rows : {1, 32, 256}) AddSample(rows, 128'256, &cases);
  for (int rows : {32, 256}) AddMixedSample(rows, 128'256, &cases);
  return {.cases = std::move(cases),
          .limits = {.memory_bytes = int64_t{6} << 30,
                     .slots = 256,
                     .max_pages_per_slot = 2056,
                     .vocab_size = 128'256,
                     .max_step_tokens = 8192,
                     .max_step_outputs = 256,
                     .gap_elements = 8,
                     .for_timing = true},
          .cold_bytes = int64_t{4} << 30,
          .roofs = {}};
}

// Decode attention only: head sizes, numbers of query heads per KV head, contexts and batches that
// a CPU serves. Few KV heads, so that the pools of long batches stay small.
CaseSet DecodeCases() {
  std::vector<OpCase> cases;
  for (int32_t head_dim : {64, 128}) {
    for (int32_t group : {1, 4, 8}) {
      const auto add = [&](size_t sequences, int32_t context, int32_t kv_heads) {
        const std::vector<testing::Chunk> rows(sequences, {context - 1, 1});
        cases.push_back({"Attend_decode_d" + Number(head_dim) + "_g" + Number(group) + "_" +
                             Number(sequences) + "x" + Number(context),
                         testing::AttendCase{{kv_heads * group, kv_heads, head_dim}, 32, rows}});
      };
      for (int32_t context : {1024, 4096, 16384}) add(1, context, 8);
      for (int32_t context : {2048, 4096, 16384}) {  // too few heads for all workers
        cases.push_back({"Attend_decode_d" + Number(head_dim) + "_g" + Number(group) + "_kv1_1x" +
                             Number(context),
                         testing::AttendCase{{group, 1, head_dim}, 32, {{context - 1, 1}}}});
      }
      add(32, 1024, 8);
      add(32, 4096, 2);
      add(32, 16384, 1);
    }
  }
  return {.cases = std::move(cases),
          .limits = {.memory_bytes = int64_t{640} << 20,
                     .slots = 32,
                     .max_pages_per_slot = 512,
                     .vocab_size = 64,
                     .max_step_tokens = 8192,
                     .max_step_outputs = 32,
                     .gap_elements = 8,
                     .for_timing = true},
          .cold_bytes = int64_t{640} << 20,
          .roofs = {}};
}

CaseSet SmokeCases() {
  std::vector<OpCase> cases = {
      {"Gemm_2x64x128", testing::GemmCase{.rows = 2, .n = 64, .k = 128}},
      {"Gemm_20x64x64", testing::GemmCase{.rows = 20, .n = 64, .k = 64}},
      {"Attend_decode_2x40", testing::AttendCase{{2, 1, 64}, 32, {{39, 1}, {39, 1}}}},
      {"Attend_prefill_20", testing::AttendCase{{2, 1, 64}, 32, {{0, 20}}}},
      {"AddNorm_2x64", testing::AddNormCase{.rows = 2, .d = 64}},
      {"StoreKv_2x64", testing::StoreKvCase{{2, 1, 64}, 32, {{0, 2}}}},
  };
  AddSample(2, 100, &cases);
  AddMixedSample(2, 100, &cases);
  return {.cases = std::move(cases),
          .limits = {.memory_bytes = int64_t{4} << 20,
                     .slots = 2,
                     .max_pages_per_slot = 4,
                     .vocab_size = 100,
                     .max_step_tokens = 64,
                     .max_step_outputs = 4,
                     .gap_elements = 8,
                     .for_timing = true},
          .cold_bytes = 128 << 10,
          .roofs = {.read_bytes = 128 << 10, .gemm = 64}};
}

}  // namespace

bool FindCaseSet(const std::string& name, CaseSet* set) {
  struct Row {
    const char* name;
    CaseSet (*make)();
  };
  constexpr Row kSets[] = {
      {"host", HostCases}, {"decode", DecodeCases}, {"gpu", GpuCases}, {"smoke", SmokeCases}};
  for (const Row& row : kSets) {
    if (name != row.name) continue;
    *set = row.make();
    return true;
  }
  return false;
}

}  // namespace baram::bench
