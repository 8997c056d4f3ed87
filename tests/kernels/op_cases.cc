// The rows of the case table.
#include "tests/kernels/op_cases.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <random>

namespace baram::testing {
namespace {

class Table {
 public:
  void Add(std::string name, OpSpec spec) {
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
    cases_.push_back({std::move(name), std::move(spec)});
  }
  std::vector<OpCase> Take() { return std::move(cases_); }

 private:
  std::vector<OpCase> cases_;
};

std::string N(int64_t value) { return std::to_string(value); }

const char* RoleName(Role role) {
  switch (role) {
    case Role::kActivation:
      return "act";
    case Role::kResidual:
      return "res";
    case Role::kF32:
      return "f32";
  }
  return "?";
}

void AddGemm(Table& table) {
  const auto add = [&](const GemmCase& c) {
    table.Add("Gemm_" + N(c.rows) + "x" + N(c.n) + "x" + N(c.k) + "_" + RoleName(c.out) +
                  (c.bias ? "_bias" : "") + (c.scale != 1.0f ? "_scale" : ""),
              c);
  };
  // Every tail of the row blocks, at sizes that are multiples of nothing.
  for (int64_t rows = 1; rows <= 70; rows += rows < 20 ? 1 : 7) {
    add({.rows = rows, .n = 50, .k = 96, .out = Role::kF32});
  }
  // Tails of n and k.
  for (int64_t n : {1, 2, 15, 16, 17, 31, 33, 48, 100}) add({.rows = 3, .n = n, .k = 64});
  for (int64_t k : {2, 6, 24, 30, 32, 34, 62, 66, 130, 576, 1538}) {
    add({.rows = 5, .n = 40, .k = k, .out = Role::kF32});
  }
  for (Role out : {Role::kActivation, Role::kResidual, Role::kF32}) {
    for (bool bias : {false, true}) {
      for (float scale : {1.0f, 0.125f}) {
        if (out == Role::kF32 && !bias && scale == 1.0f) continue;
        add({.rows = 18, .n = 72, .k = 160, .out = out, .bias = bias, .scale = scale});
      }
    }
  }
  add({.rows = 33, .n = 530, .k = 1030, .out = Role::kResidual, .bias = true});
  // Long sums with few columns, which a GPU's blocks share.
  add({.rows = 2, .n = 16, .k = 4096, .out = Role::kF32});
  add({.rows = 5, .n = 40, .k = 4096, .bias = true});
  add({.rows = 16, .n = 576, .k = 1536, .out = Role::kResidual});
}

void AddNorms(Table& table) {
  for (int64_t d : {2, 16, 30, 64, 576, 2050}) {
    for (Role x : {Role::kActivation, Role::kResidual, Role::kF32}) {
      for (Role out : {Role::kActivation, Role::kF32}) {
        table.Add("Norm_" + N(d) + "_" + RoleName(x) + "_" + RoleName(out),
                  NormCase{.rows = 5, .d = d, .x = x, .out = out});
      }
    }
  }
  for (int64_t d : {2, 30, 64, 1026}) {
    for (int form = 0; form < 4; ++form) {
      AddNormCase c{.rows = 7,
                    .d = d,
                    .post = form % 2 == 1,
                    .pre = form / 2 != 1,
                    .scale = form % 2 == 0 ? 1.0f : 0.25f};
      for (Role branch : {Role::kResidual, Role::kActivation}) {
        c.branch = branch;
        table.Add("AddNorm_" + N(d) + (c.post ? "_post" : "") + (c.pre ? "_pre" : "") + "_" +
                      RoleName(branch),
                  c);
      }
    }
  }
}

void AddRowOps(Table& table) {
  for (Activation kind : {Activation::kSilu, Activation::kGeluTanh}) {
    for (int64_t f : {1, 16, 34, 200, 1538}) {
      table.Add(std::string("Act_") + (kind == Activation::kSilu ? "silu_" : "gelu_") + N(f),
                ActCase{.rows = 5, .f = f, .kind = kind});
    }
  }
  for (int64_t d : {2, 30, 64, 578}) {
    table.Add("Embed_" + N(d), EmbedCase{.tokens = 9, .vocab = 53, .d = d});
    table.Add("Embed_" + N(d) + "_scale", EmbedCase{9, 53, d, 24.0f});
    table.Add("Embed_" + N(d) + "_act", EmbedCase{9, 53, d, 0.3f, Role::kActivation});
    for (Role type : {Role::kActivation, Role::kResidual, Role::kF32}) {
      table.Add("GatherRows_" + N(d) + "_" + RoleName(type), GatherRowsCase{11, 6, d, type});
    }
  }
}

void AddStoreKv(Table& table) {
  const std::vector<Chunk> chunks = {{37, 1}, {0, 1}, {0, 9}, {14, 5}};
  for (int32_t hd : {2, 24, 64, 80, 96, 128, 256}) {
    for (int form = 0; form < 4; ++form) {
      const int32_t heads = form == 3 ? 6 : 2;
      const int32_t kv_heads = form == 1 ? 1 : 2;
      StoreKvCase c{.head = {heads, kv_heads, hd},
                    .page_tokens = 32 << (form % 3),
                    .chunks = chunks,
                    .q_norm = form == 1 || form == 3,
                    .k_norm = form >= 2};
      c.rotary_dim = form == 0 ? hd : form == 1 ? std::max(2, hd / 4 * 2) : form == 2 ? 0 : hd;
      c.layout = form == 1 || form == 3 ? RopeLayout::kInterleaved : RopeLayout::kHalfSplit;
      table.Add("StoreKv_" + N(hd) + "_form" + N(form), c);
    }
    table.Add("StoreKv_" + N(hd) + "_partial", StoreKvCase{.head = {8, 1, hd},
                                                           .page_tokens = 32,
                                                           .chunks = chunks,
                                                           .q_norm = true,
                                                           .k_norm = true,
                                                           .rotary_dim = std::max(2, hd / 4 * 2)});
  }
}

void AddAttend(Table& table) {
  const std::vector<Chunk> mixed = {{70, 1}, {0, 1}, {15, 1}, {0, 40}, {33, 20}, {16, 16}};
  for (int32_t hd : {2, 24, 64, 80, 128, 256}) {
    for (int32_t ratio : {1, 3, 8}) {
      table.Add(
          "Attend_" + N(hd) + "_gqa" + N(ratio),
          AttendCase{
              .head = {2 * ratio, 2, hd}, .page_tokens = ratio == 3 ? 64 : 32, .chunks = mixed});
    }
  }
  for (int32_t page : {32, 64, 128}) {
    for (int32_t window : {0, 1, 7, 16, 33, 64, 1000}) {
      table.Add("Attend_page" + N(page) + "_window" + N(window),
                AttendCase{.head = {7, 1, 64},
                           .page_tokens = page,
                           .chunks = mixed,
                           .window = window,
                           .layers = page == 64 ? 3 : 1});
    }
  }
  for (int32_t context : {0, 1, 14, 15, 16, 31, 32, 63, 64, 65, 127, 255, 256, 511, 700}) {
    table.Add("Attend_decode_after" + N(context),
              AttendCase{.head = {4, 2, 64}, .page_tokens = 32, .chunks = {{context, 1}}});
  }
  table.Add("Attend_long_prompt",
            AttendCase{.head = {4, 2, 64}, .page_tokens = 32, .chunks = {{0, 300}, {650, 50}}});
  table.Add(
      "Attend_long_window",
      AttendCase{
          .head = {4, 4, 96}, .page_tokens = 32, .chunks = {{600, 40}, {700, 1}}, .window = 100});
}

// Contexts that a GPU splits into parts, for each of its kernels: few query rows, some, many.
// cuda_op_cases_test.cc checks that they serve their purpose.
void AddCutAttend(Table& table) {
  for (int32_t hd : {64, 128, 256}) {
    for (int32_t ratio : {2, 4}) {
      table.Add("Attend_cut_" + N(hd) + "_gqa" + N(ratio),
                AttendCase{.head = {2 * ratio, 2, hd}, .page_tokens = 64, .chunks = {{1023, 1}}});
    }
    const HeadShape head = {8, 2, hd};
    table.Add("Attend_cut_" + N(hd) + "_chunk",
              AttendCase{.head = head, .page_tokens = 32, .chunks = {{600, 20}, {300, 1}}});
    table.Add("Attend_cut_" + N(hd) + "_many_parts",
              AttendCase{.head = head, .page_tokens = 64, .chunks = {{2200, 1}}});
  }
}

void AddSample(Table& table) {
  const auto with = [](auto change) {
    SampleRow row;
    row.sampling.seed = 0x123456789abcdefull;
    row.sampling.logprobs = 5;
    row.prompt = {1, 2, 3, 2};
    row.output = {4, 0, 4};
    change(row);
    return row;
  };
  const std::vector<std::pair<std::string, SampleRow>> rows = {
      {"greedy", with([](auto& r) { r.sampling.temperature = 0; })},
      {"plain", with([](auto&) {})},
      {"hot", with([](auto& r) { r.sampling.temperature = 1.7f; })},
      {"cold", with([](auto& r) { r.sampling.temperature = 0.01f; })},
      {"tiny_temperature", with([](auto& r) { r.sampling.temperature = 1e-38f; })},
      {"repetition", with([](auto& r) {
         r.sampling.temperature = 0;
         r.sampling.repetition_penalty = 1.8f;
       })},
      {"presence", with([](auto& r) {
         r.sampling.temperature = 0;
         r.sampling.presence_penalty = 2.0f;
       })},
      {"frequency", with([](auto& r) {
         r.sampling.temperature = 0;
         r.sampling.frequency_penalty = 1.5f;
       })},
      {"bonus", with([](auto& r) {
         r.sampling.repetition_penalty = 0.7f;
         r.sampling.presence_penalty = -1.0f;
         r.sampling.frequency_penalty = -0.5f;
       })},
      {"repetition_overflow", with([](auto& r) {
         r.sampling.repetition_penalty = FLT_MIN;
         r.sampling.top_p = 0.9f;
         r.bias = {{2, 100.0f}, {4, 90.0f}};
       })},
      {"repetition_overflow_greedy", with([](auto& r) {
         r.sampling.temperature = 0;
         r.sampling.repetition_penalty = FLT_MIN;
         r.bias = {{4, 90.0f}};
       })},
      // With five tokens all are seen and below zero: what remains of them is close to it.
      {"repetition_underflow", with([](auto& r) {
         r.sampling.repetition_penalty = 1e-37f;
         r.sampling.top_k = 2;
         r.sampling.top_p = 0.9f;
         r.bias = {{0, -100.0f}, {1, -100.0f}, {2, -100.0f}, {3, -100.0f}, {4, -100.0f}};
       })},
      {"bias", with([](auto& r) {
         r.bias = {{0, 3.0f}, {3, -100.0f}, {2, 100.0f}, {9999999, 5.0f}};
       })},
      {"mask", with([](auto& r) { r.allow_every = 3; })},
      {"mask_greedy", with([](auto& r) {
         r.allow_every = 2;
         r.sampling.temperature = 0;
         r.sampling.repetition_penalty = 1.3f;
       })},
      {"mask_nothing", with([](auto& r) { r.allow_every = -1; })},
      {"min_tokens", with([](auto& r) {
         r.sampling.min_tokens = 5;
         r.stop_ids = {0, 1, 2};
       })},
      {"min_tokens_reached", with([](auto& r) {
         r.sampling.min_tokens = 3;
         r.stop_ids = {0, 1, 2, 3};
       })},
      {"top_k", with([](auto& r) { r.sampling.top_k = 3; })},
      {"top_k_one", with([](auto& r) { r.sampling.top_k = 1; })},
      {"top_k_past", with([](auto& r) { r.sampling.top_k = 1 << 30; })},
      {"top_k_many", with([](auto& r) { r.sampling.top_k = 700; })},
      {"top_k_hot", with([](auto& r) {
         r.sampling.temperature = 5;
         r.sampling.top_k = 200;
       })},
      {"top_k_flat", with([](auto& r) {
         r.logits = LogitKind::kFlat;
         r.sampling.top_k = 3;
       })},
      {"top_k_flat_top_p", with([](auto& r) {
         r.logits = LogitKind::kFlat;
         r.sampling.top_k = 3;
         r.sampling.top_p = 0.5f;
       })},
      {"top_p", with([](auto& r) { r.sampling.top_p = 0.6f; })},
      {"top_p_min_p", with([](auto& r) {
         r.sampling.temperature = 3.0f;
         r.sampling.top_p = 0.7f;
         r.sampling.min_p = 0.3f;
       })},
      {"top_p_tiny", with([](auto& r) { r.sampling.top_p = 1e-6f; })},
      {"top_p_wide", with([](auto& r) {
         r.sampling.top_p = 0.999f;
         r.sampling.temperature = 3.0f;
       })},
      {"min_p", with([](auto& r) { r.sampling.min_p = 0.2f; })},
      {"min_p_one", with([](auto& r) { r.sampling.min_p = 1.0f; })},
      {"all_filters", with([](auto& r) {
         r.sampling.temperature = 1.4f;
         r.sampling.min_p = 0.01f;
         r.sampling.top_k = 40;
         r.sampling.top_p = 0.8f;
         r.sampling.presence_penalty = 0.5f;
       })},
      {"no_logprobs", with([](auto& r) { r.sampling.logprobs = -1; })},
      {"greedy_no_logprobs", with([](auto& r) {
         r.sampling.temperature = 0;
         r.sampling.logprobs = -1;
       })},
      {"min_tokens_no_logprobs", with([](auto& r) {
         r.sampling.min_tokens = 5;
         r.stop_ids = {0, 1, 2};
         r.sampling.logprobs = -1;
       })},
      {"nan_no_logprobs", with([](auto& r) {
         r.logits = LogitKind::kNaN;
         r.sampling.logprobs = -1;
       })},
      {"logprob_only", with([](auto& r) { r.sampling.logprobs = 0; })},
      {"logprobs_20", with([](auto& r) { r.sampling.logprobs = 20; })},
      {"second_output", with([](auto& r) { r.sampling.output_index = 1; })},
      {"plateau", with([](auto& r) {
         r.logits = LogitKind::kPlateau;
         r.sampling.logprobs = 5;
       })},
      {"score", with([](auto& r) { r.target = 4; })},
      {"score_first", with([](auto& r) {
         r.target = 0;
         r.sampling.logprobs = -1;
         r.sampling.frequency_penalty = 1.0f;
       })},
      {"score_past", with([](auto& r) { r.target = kPastVocab; })},
      {"nan", with([](auto& r) { r.logits = LogitKind::kNaN; })},
      {"score_nan", with([](auto& r) {
         r.logits = LogitKind::kNaN;
         r.target = 2;
       })},
      {"infinite", with([](auto& r) { r.logits = LogitKind::kInfinite; })},
      {"all_masked", with([](auto& r) { r.logits = LogitKind::kAllMasked; })},
  };
  for (int32_t vocab : {5, 1003, 50001}) {
    const int32_t columns = vocab == 50001 ? 50016 : vocab + 3;
    std::vector<SampleRow> all;
    for (const auto& [name, row] : rows) {
      all.push_back(row);
      for (LogitKind kind : {LogitKind::kNormal, LogitKind::kTies, LogitKind::kHoles}) {
        if (vocab == 50001) continue;  // the same rows, in one batch below
        if (row.logits != LogitKind::kNormal && kind != LogitKind::kNormal) continue;
        SampleCase c{vocab, columns, {row}, 3};
        const char* suffix = "";
        if (row.logits == LogitKind::kNormal) {
          c.rows[0].logits = kind;
          suffix = kind == LogitKind::kTies ? "_ties" : kind == LogitKind::kHoles ? "_holes" : "";
        }
        table.Add("Sample_" + N(vocab) + "_" + name + suffix, c);
      }
    }
    table.Add("Sample_" + N(vocab) + "_batch",
              SampleCase{vocab, columns, all, vocab == 50001 ? 1 : 2});
  }
  // More rows than a GPU launches at once.
  SampleCase many{130, 131, {}, 1};
  for (size_t i = 0; i < 1030; ++i) many.rows.push_back(rows[i % rows.size()].second);
  table.Add("Sample_130_many", many);
  // Small enough to emulate a GPU, and longer than its kernel's list in shared memory.
  for (const auto& [name, row] : rows) {
    if (name.starts_with("top_") || name == "all_filters" || name == "logprobs_20") {
      table.Add("Sample_2051_" + name, SampleCase{2051, 2052, {row}, 2});
    }
    // Often enough that tokens near the bound are drawn.
    if (name == "top_p_wide" || name == "top_p_min_p" || name == "no_logprobs") {
      table.Add("Sample_1003_" + name + "_rounds", SampleCase{1003, 1006, {row}, 30});
    }
    // More equal values than the list takes, and so are the smaller ones.
    if (name == "plateau") table.Add("Sample_8197_plateau", SampleCase{8197, 8200, {row}, 1});
    // More than twice the vectors that a block's threads load at once, with everything that matters
    // after them, in a vector and a partial one.
    if (name == "greedy" || name == "plain" || name == "top_k" || name == "top_p" ||
        name == "no_logprobs" || name == "greedy_no_logprobs") {
      SampleCase tail{8197, 8200, {row}, 2};
      tail.rows[0].logits = LogitKind::kTail;
      table.Add("Sample_8197_" + name + "_tail", tail);
    }
  }
}

// Every parameter at its limits as often as in between: what a client may send, all at once. Not so
// extreme that denormals or the rounding of logits decide: devices differ there, and separate rows
// above show that they survive it.
SampleRow ExtremeRow(std::mt19937& random, int32_t vocab) {
  const auto below = [&](size_t n) { return static_cast<int32_t>(random() % n); };
  const auto one_of = [&](auto... values) {
    const std::array choices = {values...};
    return choices[random() % choices.size()];
  };
  SampleRow row;
  row.sampling.seed = random();
  row.sampling.temperature = one_of(0.0f, 1e-5f, 0.7f, 1.0f, 2.0f);
  row.sampling.top_p = one_of(FLT_MIN, 1e-6f, 0.3f, 0.9f, 0.999999f, 1.0f);
  row.sampling.min_p = one_of(0.0f, 0.0f, FLT_MIN, 0.01f, 0.9f, 1.0f);
  row.sampling.top_k = one_of(0, 0, 1, 2, 7, vocab - 1, 1 << 30);
  row.sampling.repetition_penalty = one_of(1.0f, 1e-36f, 1e-36f, 0.5f, 2.0f);
  row.sampling.presence_penalty = one_of(0.0f, 0.0f, 0.0f, -2.0f, 2.0f);
  row.sampling.frequency_penalty = one_of(0.0f, 0.0f, 0.0f, -2.0f, 2.0f);
  row.sampling.logprobs = one_of(-1, 0, 20);
  row.sampling.min_tokens = one_of(0, 0, 4);
  row.logits = one_of(LogitKind::kNormal, LogitKind::kTies, LogitKind::kHoles, LogitKind::kFlat);
  // Some tokens seen, or all of them; all pushed the same way, or each differently.
  for (int32_t i = below(8); i > 0; --i) row.prompt.push_back(below(vocab));
  for (int32_t i = 0; i < vocab * below(2); ++i) row.prompt.push_back(i);
  for (int32_t i = below(8); i > 0; --i) row.output.push_back(below(vocab));
  const int32_t biased = one_of(0, std::min<int32_t>(vocab, kMaxBiasedTokens));
  const float of_all = one_of(NAN, -100.0f, 100.0f);
  for (int32_t i = 0; i < biased; ++i) {
    row.bias.push_back({i, std::isnan(of_all) ? one_of(-100.0f, -1.0f, 0.0f, 100.0f) : of_all});
  }
  for (int32_t i = below(3); i > 0; --i) row.stop_ids.push_back(below(vocab));
  row.allow_every = one_of(0, 0, 0, 2);
  return row;
}

void AddExtremeSamples(Table& table) {
  for (const int32_t vocab : {1, 2, 5, 17, 257}) {
    std::mt19937 random(static_cast<uint32_t>(vocab));
    for (int i = 0; i < 12; ++i) {
      SampleCase c{vocab, vocab + 3, {}, 2};
      for (int row = 0; row < 16; ++row) c.rows.push_back(ExtremeRow(random, vocab));
      table.Add("Sample_" + N(vocab) + "_extreme_" + N(i), c);
    }
  }
}

}  // namespace

std::vector<OpCase> OpCases() {
  Table table;
  AddGemm(table);
  AddNorms(table);
  AddRowOps(table);
  AddStoreKv(table);
  AddAttend(table);
  AddCutAttend(table);
  AddSample(table);
  AddExtremeSamples(table);
  return table.Take();
}

namespace {

int64_t Tokens(const std::vector<Chunk>& chunks) {
  int64_t tokens = 0;
  for (const Chunk& chunk : chunks) tokens += chunk.count;
  return tokens;
}

int64_t Rows(const EmbedCase& c) { return c.tokens; }
int64_t Rows(const StoreKvCase& c) { return Tokens(c.chunks); }
int64_t Rows(const AttendCase& c) { return Tokens(c.chunks); }
int64_t Rows(const SampleCase& c) { return static_cast<int64_t>(c.rows.size()); }
int64_t Rows(const auto& c) { return c.rows; }

}  // namespace

int64_t CaseRows(const OpCase& op_case) {
  return std::visit([](const auto& c) { return Rows(c); }, op_case.spec);
}

}  // namespace baram::testing
