// SlotTable: deltas, row expansion, and the sampler's inputs.
#include "kernels/slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baram {
namespace {

using testing::ElementsAre;

template <typename T>
std::vector<T> Array(const T* data, int64_t count) {
  return {data, data + count};
}

class SlotsTest : public testing::Test {
 protected:
  SlotsTest() {
    slots_.Reserve({.slots = 3,
                    .groups = 2,
                    .max_pages_per_slot = 4,
                    .vocab_size = 10,
                    .max_step_tokens = 8,
                    .max_step_outputs = 6});
  }
  StepView Init(SlotInit init) {
    return slots_.BeginStep(
        {.inits = {&init, 1}, .page_deltas = {}, .rows = {}, .tokens = {}, .targets = {}});
  }
  StepView Step(std::vector<Row> rows, std::vector<int32_t> tokens,
                std::vector<int32_t> targets = {}) {
    return slots_.BeginStep(
        {.inits = {}, .page_deltas = {}, .rows = rows, .tokens = tokens, .targets = targets});
  }
  SlotTable slots_;
};

SlotInit InitOf(int32_t slot, int32_t length) {
  SlotInit init;
  init.slot = slot;
  init.length = length;
  return init;
}

TEST_F(SlotsTest, PadsDecodesToAFixedNumberOfRows) {
  Init(InitOf(2, 5));
  slots_.Draw(2, 7);
  const Row rows[] = {{.slot = 2, .continues = true, .draws = true}, {.slot = 0, .draws = true}};
  const int32_t tokens[] = {4};
  const StepView view = slots_.BeginStep({.inits = {},
                                          .page_deltas = {},
                                          .rows = rows,
                                          .tokens = tokens,
                                          .targets = {},
                                          .padded_rows = 5});
  EXPECT_EQ(view.tokens, 5);
  EXPECT_EQ(view.rows, 2);
  EXPECT_EQ(view.outputs, 5);
  EXPECT_EQ(view.live_outputs, 2);
  EXPECT_THAT(Array(view.token_ids, 5), ElementsAre(7, 4, 0, 0, 0));
  EXPECT_THAT(Array(view.positions, 5), ElementsAre(5, 0, 0, 0, 0));
  EXPECT_THAT(Array(view.token_slots, 5), ElementsAre(2, 0, -1, -1, -1));
  EXPECT_THAT(Array(view.row_begin, 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(Array(view.output_tokens, 5), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Array(view.output_slots, 5), ElementsAre(2, 0, -1, -1, -1));
  EXPECT_EQ(view.Outputs(0, 2).tokens, 2);
  EXPECT_EQ(view.Outputs(0, 2).outputs, 2);
}

TEST_F(SlotsTest, RefusesToPadWhatIsNoDecodeStep) {
  const auto pad = [this](Row row, int32_t padded_rows) {
    const int32_t tokens[] = {4, 5};
    const int32_t targets[] = {6};
    StepInput input;
    input.rows = {&row, 1};
    input.tokens = tokens;
    input.padded_rows = padded_rows;
    if (row.scores > 0) input.targets = targets;
    slots_.BeginStep(input);
  };
  const char* kRule = "every row of a padded step is one token that is drawn from";
  EXPECT_DEATH(pad({.count = 2, .draws = true}, 4), kRule);
  EXPECT_DEATH(pad({.count = 1}, 4), kRule);
  EXPECT_DEATH(pad({.count = 1, .scores = 1}, 4), kRule);
  EXPECT_DEATH(pad({.count = 1, .draws = true}, 7), "within the bounds of a step");
}

TEST_F(SlotsTest, ExpandsRowsToTokens) {
  Init(InitOf(2, 5));
  Init(InitOf(0, 0));
  slots_.Draw(2, 7);
  const StepView view =
      Step({{.slot = 2, .continues = true, .draws = true}, {.slot = 0, .count = 3}}, {4, 5, 6});
  EXPECT_EQ(view.tokens, 4);
  EXPECT_EQ(view.rows, 2);
  EXPECT_THAT(Array(view.token_ids, 4), ElementsAre(7, 4, 5, 6));
  EXPECT_THAT(Array(view.positions, 4), ElementsAre(5, 0, 1, 2));
  EXPECT_THAT(Array(view.token_slots, 4), ElementsAre(2, 0, 0, 0));
  EXPECT_THAT(Array(view.row_begin, 3), ElementsAre(0, 1, 4));
  EXPECT_THAT(Array(view.row_slots, 2), ElementsAre(2, 0));
  EXPECT_EQ(view.outputs, 1);
  EXPECT_EQ(view.output_tokens[0], 0);
  EXPECT_EQ(view.output_slots[0], 2);
  EXPECT_EQ(view.output_targets[0], -1);
}

TEST_F(SlotsTest, LengthsAdvanceByTheRowsCount) {
  Init(InitOf(1, 2));
  Step({{.slot = 1, .count = 3}}, {1, 2, 3});
  EXPECT_EQ(slots_.State(1).length, 5);
  const StepView view = Step({{.slot = 1, .count = 1}}, {4});
  EXPECT_EQ(view.positions[0], 5);
}

TEST_F(SlotsTest, ScoresComeBeforeTheDrawOfTheSameRow) {
  Init(InitOf(0, 0));
  Init(InitOf(1, 0));
  const StepView view = Step(
      {{.slot = 0, .count = 3, .scores = 2, .draws = true}, {.slot = 1, .count = 2, .scores = 2}},
      {1, 2, 3, 4, 5}, {2, 3, 5, 6});
  EXPECT_EQ(view.outputs, 5);
  EXPECT_THAT(Array(view.output_tokens, 5), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Array(view.output_slots, 5), ElementsAre(0, 0, 0, 1, 1));
  EXPECT_THAT(Array(view.output_targets, 5), ElementsAre(2, 3, -1, 5, 6));
}

TEST_F(SlotsTest, PageTablesAreKeptPerGroupAndEmptiedByAnInit) {
  const std::vector<PageDelta> deltas = {{1, 0, 2, 30}, {1, 1, 0, 31}, {2, 1, 3, 32}};
  StepView view = slots_.BeginStep(
      {.inits = {}, .page_deltas = deltas, .rows = {}, .tokens = {}, .targets = {}});
  EXPECT_EQ(view.max_pages_per_slot, 4);
  EXPECT_THAT(Array(view.page_tables[0] + 4, 4), ElementsAre(-1, -1, 30, -1));
  EXPECT_THAT(Array(view.page_tables[1] + 4, 4), ElementsAre(31, -1, -1, -1));
  view = Init(InitOf(1, 0));
  EXPECT_THAT(Array(view.page_tables[0] + 4, 4), ElementsAre(-1, -1, -1, -1));
  EXPECT_THAT(Array(view.page_tables[1] + 4, 4), ElementsAre(-1, -1, -1, -1));
  EXPECT_EQ(view.page_tables[1][11], 32);
}

TEST_F(SlotsTest, CountsTellPromptFromOutput) {
  const std::vector<int32_t> tokens = {1, 1, 2, 2, 3, 99, -1};
  SlotInit init = InitOf(0, 0);
  init.tokens = tokens;
  init.prompt_tokens = 3;
  init.generated = 2;
  init.sampling.presence_penalty = 1;
  Init(init);
  const uint16_t* counts = slots_.State(0).counts;
  ASSERT_NE(counts, nullptr);
  EXPECT_THAT(Array(counts, 10),
              ElementsAre(0, kCountInPrompt, kCountInPrompt | 1, 1, 0, 0, 0, 0, 0, 0));
  slots_.Draw(0, 2);
  slots_.Draw(0, 9);
  EXPECT_EQ(counts[2], kCountInPrompt | 2);
  EXPECT_EQ(counts[9], 1);
  EXPECT_EQ(slots_.State(0).generated, 4);
  EXPECT_EQ(slots_.State(0).last_token, 9);
}

TEST_F(SlotsTest, CountsSaturateBelowThePromptBit) {
  SlotInit init = InitOf(0, 0);
  init.sampling.frequency_penalty = 1;
  Init(init);
  for (int i = 0; i < 0x8003; ++i) slots_.Draw(0, 4);
  EXPECT_EQ(slots_.State(0).counts[4], kCountOutputs);
}

TEST_F(SlotsTest, ARebindForgetsTheSequenceBefore) {
  const std::vector<int32_t> tokens = {1};
  const std::vector<TokenBias> bias = {{3, 1.5f}};
  const std::vector<int32_t> stop_ids = {4, 5};
  SlotInit init = InitOf(0, 6);
  init.tokens = tokens;
  init.bias = bias;
  init.stop_ids = stop_ids;
  init.sampling.repetition_penalty = 2;
  Init(init);
  slots_.Draw(0, 8);
  EXPECT_EQ(slots_.State(0).bias.size(), 1u);
  EXPECT_THAT(Array(slots_.State(0).stop_ids.data(), 2), ElementsAre(4, 5));

  Init(InitOf(0, 0));
  EXPECT_EQ(slots_.State(0).counts, nullptr);
  EXPECT_TRUE(slots_.State(0).bias.empty());
  EXPECT_TRUE(slots_.State(0).stop_ids.empty());
  EXPECT_EQ(slots_.State(0).generated, 0);
  EXPECT_EQ(slots_.State(0).length, 0);

  init.tokens = {};
  Init(init);
  EXPECT_EQ(slots_.State(0).counts[8], 0);
}

TEST_F(SlotsTest, DeathOnBrokenInvariants) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(Step({{.slot = 3}}, {1}), "a Row names a reserved slot");
  EXPECT_DEATH(Step({{.slot = 0, .count = 9}}, std::vector<int32_t>(9, 1)), "max_step_tokens");
  EXPECT_DEATH(Step({{.slot = 0, .count = 2}}, {1}), "brings its tokens");
}

}  // namespace
}  // namespace baram
