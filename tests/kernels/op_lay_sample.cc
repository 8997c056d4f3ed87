// OpBed: lays out sampling cases and advances them from step to step.
#include <algorithm>
#include <cmath>

#include "tests/kernels/op_bed.h"

namespace baram::testing {
namespace {

// Turns normal values into what each row's kind requires; past the vocabulary nothing may be read.
void ShapeLogits(const SampleCase& c, std::vector<float>* logits) {
  for (int64_t r = 0; r < std::ssize(c.rows); ++r) {
    float* row = logits->data() + r * c.columns;
    for (int32_t v = 0; v < c.columns; ++v) {
      switch (c.rows[r].logits) {
        case LogitKind::kNormal:
          break;
        case LogitKind::kTies:
          row[v] = std::round(row[v]);
          break;
        case LogitKind::kHoles:
          row[v] = v % 3 == 1 ? -INFINITY : row[v];
          break;
        case LogitKind::kFlat:
          row[v] = 1.0f;
          break;
        case LogitKind::kPlateau:
          row[v] = v < 3 ? 2.0f : v % 3 == 0 ? 0.0f : 1.0f;
          break;
        case LogitKind::kTail:
          row[v] = v >= c.vocab - 5 ? 15.0f : row[v];
          break;
        case LogitKind::kNaN:
          row[v] = v == c.vocab - 1 ? NAN : row[v];
          break;
        case LogitKind::kInfinite:
          row[v] = v == c.vocab / 2 ? INFINITY : row[v];
          break;
        case LogitKind::kAllMasked:
          row[v] = -INFINITY;
          break;
      }
      if (v >= c.vocab) row[v] = NAN;
    }
  }
}

}  // namespace

StepView OpBed::SampleStep(const SampleCase& c, const std::vector<SlotInit>& inits,
                           const std::vector<int32_t>& slots, const std::vector<int32_t>& tokens) {
  std::vector<Row> rows;
  std::vector<int32_t> targets;
  for (int32_t slot : slots) {
    const int32_t target = std::min(c.rows[slot].target, c.vocab);
    const bool scores = target >= 0;
    rows.push_back({.slot = slot, .scores = scores ? 1 : 0, .draws = !scores});
    if (scores) targets.push_back(target);
  }
  return device_.BeginStep(
      {.inits = inits, .page_deltas = {}, .rows = rows, .tokens = tokens, .targets = targets});
}

const uint32_t* const* OpBed::Masks(const SampleCase& c, RowRange rows) {
  std::vector<const uint32_t*> masks;
  bool any = false;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const int32_t every = c.rows[r].allow_every;
    masks.push_back(nullptr);
    if (every == 0) continue;
    any = true;
    std::vector<uint32_t> words((c.columns + 31) / 32, 0);
    for (int32_t v = 0; every > 0 && v < c.columns; v += every) words[v / 32] |= 1u << (v % 32);
    masks.back() = Put(words);
  }
  return any ? Put(masks) : nullptr;
}

PreparedOp OpBed::Lay(const SampleCase& c, RowRange rows, bool) {
  std::vector<SlotInit> inits;
  std::vector<std::vector<int32_t>> histories;
  histories.reserve(rows.end - rows.begin);
  std::vector<int32_t> slots;
  std::vector<int32_t> tokens;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const SampleRow& row = c.rows[r];
    std::vector<int32_t>& history = histories.emplace_back(row.prompt);
    history.insert(history.end(), row.output.begin(), row.output.end());
    inits.push_back({.slot = static_cast<int32_t>(r),
                     .length = static_cast<int32_t>(history.size()) - 1,
                     .prompt_tokens = static_cast<int32_t>(row.prompt.size()),
                     .generated = static_cast<int32_t>(row.output.size()),
                     .sampling = row.sampling,
                     .tokens = history,
                     .bias = row.bias,
                     .stop_ids = row.stop_ids});
    slots.push_back(static_cast<int32_t>(r));
    tokens.push_back(history.back());
  }
  SampleArgs args;
  args.step = SampleStep(c, inits, slots, tokens);

  const int64_t total = static_cast<int64_t>(c.rows.size());
  std::vector<float> logits = Random("logits", total, c.columns, 3.0f, DType::kF32);
  if (!limits_.for_timing) ShapeLogits(c, &logits);
  args.logits = Input(Role::kF32, logits, c.columns, rows);
  args.valid_vocab = c.vocab;
  args.masks = Masks(c, rows);
  const int64_t count = rows.end - rows.begin;
  args.results =
      static_cast<TokenResult*>(Take(count * static_cast<int64_t>(sizeof(TokenResult)), 0xFF));
  return {args, 0, [this, tensor = args.logits, part = Part(logits, c.columns, rows)] {
            Fill(tensor, part);
          }};
}

void OpBed::NextRound(const SampleCase& c, const std::vector<TokenResult>& results,
                      SampleArgs& args) {
  const std::vector<int32_t> slots = ReadInts(args.step.output_slots, args.step.outputs);
  std::vector<int32_t> tokens;
  for (const TokenResult& result : results) tokens.push_back(std::max(0, result.token));
  args.step = SampleStep(c, {}, slots, tokens);
}

std::string OpBed::BrokenSlots(const SampleArgs& args, const std::vector<TokenResult>& results) {
  const std::vector<int32_t> slots = ReadInts(args.step.output_slots, args.step.outputs);
  const std::vector<int32_t> targets = ReadInts(args.step.output_targets, args.step.outputs);
  const std::vector<int32_t> positions = ReadInts(args.step.positions, args.step.tokens);
  std::vector<Row> rows;
  std::vector<size_t> drawn;
  for (size_t i = 0; i < results.size(); ++i) {
    if (targets[i] >= 0 || results[i].flags != kResultOk) continue;
    rows.push_back({.slot = slots[i], .continues = true});
    drawn.push_back(i);
  }
  const StepView next = device_.BeginStep(
      {.inits = {}, .page_deltas = {}, .rows = rows, .tokens = {}, .targets = {}});
  const std::vector<int32_t> next_ids = ReadInts(next.token_ids, next.tokens);
  const std::vector<int32_t> next_positions = ReadInts(next.positions, next.tokens);
  for (size_t i = 0; i < drawn.size(); ++i) {
    if (next_ids[i] != results[drawn[i]].token) return "a slot continues with another token";
    if (next_positions[i] != positions[drawn[i]] + 1) return "a slot continues at another position";
  }
  return "";
}

}  // namespace baram::testing
