// SizeEngine: defaults from the machine and the model, and what does not fit.
#include "engine/sizes.h"

#include "absl/strings/str_cat.h"
#include "engine/memory_budget.h"
#include "engine/model/weight_layout.h"
#include "engine/open.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::MatchesRegex;

// SizeEngine's message for a model that does not fit.
std::string Refusal(const EngineConfig& config, const Device& device) {
  const absl::Status status = SizeEngine(config, TinySpec({0}), device).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  return std::string(status.message());
}

constexpr int64_t kGb = 1'000'000'000;

// A GPU of 100 GB, of which the device itself uses 5.
FakeOptions Gpu(int64_t free_bytes) {
  return {.memory_bytes = 100 * kGb,
          .own_memory = true,
          .free_bytes = free_bytes,
          .own_use = {.state_bytes = 2 * kGb, .runtime_bytes = 3 * kGb}};
}

// So many sequences with such long contexts that no memory here fits a cache for all of them.
ModelSpec HugeSpec() { return TinySpec({0}, /*max_positions=*/1 << 20); }
EngineConfig ManySequences() {
  EngineConfig config;
  config.page_tokens = 1024;
  config.max_num_seqs = 20'000;
  return config;
}

int64_t Together(const MemoryBudget& sum) {
  int64_t bytes = 0;
  for (const MemoryBudget::Part& part : sum.parts) bytes += part.bytes;
  return bytes;
}

TEST(SizesTest, PagesOfASequence) {
  const KvPlan plan = PlanKv(TinySpec({0, 6}), 4);
  ASSERT_EQ(plan.groups(), 2);
  // A window of 6 spans at most 3 pages, and a step in flight may start one more.
  EXPECT_EQ(PagesForSequence(plan, 8, 1), 4);
  EXPECT_EQ(PagesForSequence(plan, 100, 1), 25 + 4);
  EXPECT_EQ(PagesForSequence(plan, 100, 2), 25 + 5);
}

TEST(SizesTest, TheContextShrinksToWhatTheCacheHolds) {
  const FakeDevice device({.page_tokens = 4});
  const ModelSpec spec = TinySpec({0}, /*max_positions=*/4096);
  EngineConfig config;
  const auto whole = SizeEngine(config, spec, device);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(whole->info.max_model_len, 4096);
  EXPECT_EQ(whole->info.max_num_seqs, 32);
  config.kv_cache_bytes = 100 * whole->info.page_bytes;
  const auto shrunk = SizeEngine(config, spec, device);
  ASSERT_TRUE(shrunk.ok());
  EXPECT_EQ(shrunk->info.pages, 100);
  EXPECT_EQ(shrunk->info.max_model_len, 400);
  EXPECT_EQ(shrunk->info.model_context_len, 4096);
  EXPECT_EQ(shrunk->slots.max_pages_per_slot, 100);
}

// A rope table for the whole context would take all of the memory, twice.
TEST(SizesTest, RopeTablesAreThoseOfTheServedContext) {
  const ModelSpec spec = HugeSpec();
  const FakeDevice device({.memory_bytes = 16 << 20});
  EngineConfig config;
  for (const int64_t kv_cache_bytes : {0, 10 << 20}) {
    config.kv_cache_bytes = kv_cache_bytes;
    const auto sizes = SizeEngine(config, spec, device);
    ASSERT_TRUE(sizes.ok()) << sizes.status();
    const EngineInfo& info = sizes->info;
    EXPECT_GT(info.max_model_len, 100'000);
    EXPECT_EQ(info.weight_bytes, WeightBytes(spec, device, info.max_model_len));
    EXPECT_LE(Together(info.memory), info.memory.usable_bytes);
    EXPECT_GE(info.kv_tokens, info.max_model_len);
    // And memory has no room for a longer context's table and cache.
    const int64_t row = WeightBytes(spec, device, info.max_model_len + 1) - info.weight_bytes;
    EXPECT_TRUE(info.kv_tokens == info.max_model_len ||
                Together(info.memory) + row > info.memory.usable_bytes);
  }
}

TEST(SizesTest, AStepHoldsATokenOfEverySequence) {
  EngineConfig config;
  config.max_num_seqs = 40;
  config.max_num_batched_tokens = 3;
  const auto sizes = SizeEngine(config, TinySpec({0}), FakeDevice({}));
  ASSERT_TRUE(sizes.ok());
  EXPECT_EQ(sizes->info.max_num_batched_tokens, 40);
}

// Of a host with so many workers.
FakeOptions Host(int32_t workers, bool matrix_units, int64_t memory_bytes = 16 * kGb) {
  return {.workers = workers, .matrix_units = matrix_units, .memory_bytes = memory_bytes};
}

TEST(SizesTest, StepsGrowWithTheWorkers) {
  struct Row {
    int32_t workers;
    bool matrix_units;
    int32_t seqs, tokens, mixed;
  };
  for (const Row& row :
       {Row{1, true, 32, 512, 128}, Row{2, true, 32, 512, 128}, Row{4, true, 64, 512, 128},
        Row{16, true, 256, 1024, 256}, Row{48, true, 256, 3072, 768},
        Row{64, true, 256, 4096, 1024}, Row{128, true, 256, 4096, 1024},
        Row{1, false, 32, 512, 128}, Row{2, false, 32, 512, 128}, Row{16, false, 256, 512, 128},
        Row{48, false, 256, 768, 192}, Row{64, false, 256, 1024, 256},
        Row{128, false, 256, 2048, 512}}) {
    SCOPED_TRACE(absl::StrCat(row.workers, " workers, ", row.matrix_units));
    const FakeDevice device(Host(row.workers, row.matrix_units));
    const auto sizes = SizeEngine({}, TinySpec({0}), device);
    ASSERT_TRUE(sizes.ok()) << sizes.status();
    EXPECT_EQ(sizes->info.max_num_seqs, row.seqs);
    EXPECT_EQ(sizes->info.max_num_batched_tokens, row.tokens);
    EXPECT_EQ(sizes->info.mixed_step_tokens, row.mixed);
    EngineConfig config;
    config.max_num_seqs = 3;
    config.max_num_batched_tokens = 300;
    config.mixed_step_tokens = 30;
    const auto asked_for = SizeEngine(config, TinySpec({0}), device);
    ASSERT_TRUE(asked_for.ok()) << asked_for.status();
    EXPECT_EQ(asked_for->info.max_num_seqs, 3);
    EXPECT_EQ(asked_for->info.max_num_batched_tokens, 300);
    EXPECT_EQ(asked_for->info.mixed_step_tokens, 30);
    EngineConfig short_steps;
    short_steps.max_num_batched_tokens = 20;
    const auto shorter = SizeEngine(short_steps, TinySpec({0}), device);
    ASSERT_TRUE(shorter.ok()) << shorter.status();
    EXPECT_EQ(shorter->info.max_num_batched_tokens, 20);
    EXPECT_EQ(shorter->info.max_num_seqs, 20);
  }
}

// With whatever memory two workers serve a model, many do, with its whole context and a cache that
// is about as large.
TEST(SizesTest, LargerStepsYieldWhereMemoryIsShort) {
  const ModelSpec spec = TinySpec({0}, /*max_positions=*/4096);
  int refused = 0, least_steps = 0, between = 0, most = 0;
  for (int64_t memory = 64 << 10; memory < 256 << 20; memory += memory / 16) {
    SCOPED_TRACE(memory);
    const auto few = SizeEngine({}, spec, FakeDevice(Host(2, true, memory)));
    const auto many = SizeEngine({}, spec, FakeDevice(Host(64, true, memory)));
    ASSERT_EQ(few.ok(), many.ok()) << many.status();
    if (!few.ok()) {
      ++refused;
      EXPECT_EQ(many.status(), few.status()) << "the sum is that of the least";
      continue;
    }
    EXPECT_GE(many->info.max_model_len, few->info.max_model_len);
    EXPECT_GE(many->info.pages, few->info.pages * 7 / 8);
    EXPECT_LE(Together(many->info.memory), many->info.memory.usable_bytes);
    const int32_t tokens = many->info.max_num_batched_tokens;
    ++(tokens == 512 ? least_steps : tokens < 4096 ? between : most);
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(least_steps, 0);
  EXPECT_GT(between, 0);
  EXPECT_GT(most, 0);
}

TEST(SizesTest, LargerStepsTakeNothingOfTheContext) {
  const ModelSpec spec = TinySpec({0}, /*max_positions=*/1 << 22);
  EngineConfig config;
  config.host_parts = [](int64_t) {  // what else is left for the cache is little
    return std::vector<MemoryBudget::Part>{{"texts", 2 * kGb}};
  };
  int shorter = 0, as_large = 0;
  for (int64_t left = 20'000'000; left < 400'000'000; left += left / 8) {
    SCOPED_TRACE(left);
    const auto memory = static_cast<int64_t>(static_cast<double>(2 * kGb + left) / 0.92);
    const auto few = SizeEngine(config, spec, FakeDevice(Host(2, true, memory)));
    const auto many = SizeEngine(config, spec, FakeDevice(Host(64, true, memory)));
    ASSERT_TRUE(few.ok() && many.ok()) << few.status() << many.status();
    EXPECT_EQ(many->info.max_model_len, few->info.max_model_len);
    shorter += few->info.max_model_len < spec.max_positions ? 1 : 0;
    as_large += many->info.max_num_batched_tokens == 4096 ? 1 : 0;
  }
  EXPECT_GT(shorter, 0);
  EXPECT_GT(as_large, 0);
}

TEST(SizesTest, NoMoreSequencesThanTheCacheHolds) {
  const ModelSpec spec = TinySpec({0}, /*max_positions=*/4096);
  const FakeDevice device(Host(64, true));
  EngineConfig config;
  const auto seqs = [&](int64_t tokens) {
    const auto whole = SizeEngine({}, spec, device);
    EXPECT_TRUE(whole.ok());
    config.kv_cache_bytes = tokens / whole->info.page_tokens * whole->info.page_bytes;
    const auto sizes = SizeEngine(config, spec, device);
    EXPECT_TRUE(sizes.ok()) << sizes.status();
    EXPECT_EQ(sizes->info.max_num_batched_tokens, 4096) << "which take nothing of the cache";
    return sizes->info.max_num_seqs;
  };
  EXPECT_EQ(seqs(300 * 512), 256);
  EXPECT_EQ(seqs(100 * 512), 100);
  EXPECT_EQ(seqs(10 * 512), 32);
  config.max_num_seqs = 200;
  EXPECT_EQ(seqs(100 * 512), 200) << "as it was asked for";
}

TEST(SizesTest, OfAGpuTheSumTakesTheShare) {
  EngineConfig config = ManySequences();
  for (const double share : {0.9, 0.45}) {
    config.gpu_memory_utilization = share;
    const auto sizes = SizeEngine(config, HugeSpec(), FakeDevice(Gpu(99 * kGb)));
    ASSERT_TRUE(sizes.ok()) << sizes.status();
    const MemoryBudget& sum = sizes->info.memory;
    const auto usable = static_cast<int64_t>(share * 100 * kGb);
    EXPECT_EQ(sum.usable_bytes, usable);
    EXPECT_LE(Together(sum), usable);
    EXPECT_GT(Together(sum), usable - sizes->info.page_bytes);
    ASSERT_EQ(sum.parts.size(), 5u);
    EXPECT_EQ(sum.parts[0].bytes, sizes->info.weight_bytes);
    EXPECT_EQ(sum.parts[2].bytes, 2 * kGb);
    EXPECT_EQ(sum.parts[3].bytes, 3 * kGb);
    EXPECT_EQ(sum.parts[4].bytes, sizes->info.pages * sizes->info.page_bytes);
  }
}

// With a window in every layer a sequence of any length fits, and the cache holds so many of them.
TEST(SizesTest, TokensOfWindowsAlone) {
  EngineConfig config;
  config.kv_cache_bytes = 1 << 20;
  const auto sizes = SizeEngine(config, TinySpec({6}, /*max_positions=*/2000), FakeDevice({}));
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  const int64_t sequences = sizes->info.pages / PagesForSequence(sizes->plan, 2000, 1);
  EXPECT_GT(sequences, 1);
  EXPECT_EQ(sizes->info.kv_tokens, 2000 * sequences);
}

TEST(SizesTest, AWarningIfOthersHoldTheMemory) {
  MemoryBudget budget;
  budget.free_bytes = 3 * kGb;
  budget.parts = {{"weights", 2 * kGb}, {"KV cache", kGb}};
  EXPECT_EQ(DescribeShortage(budget), "");
  budget.parts[1].bytes += 1;
  EXPECT_THAT(DescribeShortage(budget), HasSubstr("only 3.00 GB are free"));
  budget.free_bytes = 0;
  EXPECT_EQ(DescribeShortage(budget), "") << "unknown";
}

TEST(SizesTest, TheHostsMemoryIsLeftToTexts) {
  EngineConfig config;
  config.host_parts = [](int64_t context) {
    return std::vector<MemoryBudget::Part>{{"texts", context * 1'000'000}};
  };
  const auto sized = [&](const FakeOptions& device) {
    const ModelSpec spec = TinySpec({0}, /*max_positions=*/2000);
    const auto sizes = SizeEngine(config, spec, FakeDevice(device));
    EXPECT_TRUE(sizes.ok()) << sizes.status();
    int64_t texts = 0;
    for (const MemoryBudget::Part& part : sizes->info.memory.parts) {
      if (part.name == "texts") texts = part.bytes;
    }
    return std::pair(sizes->info.max_model_len, texts);
  };
  EXPECT_EQ(sized({.memory_bytes = 4 * kGb}), std::pair(2000, 2 * kGb));
  const auto [context, texts] = sized({.memory_bytes = 1 * kGb});
  EXPECT_THAT(context, AllOf(Gt(800), Le(920))) << "it shrinks to what leaves room";
  EXPECT_EQ(texts, context * int64_t{1'000'000});
  EXPECT_EQ(sized(Gpu(100 * kGb)), std::pair(2000, int64_t{0})) << "a GPU's memory holds none";
}

TEST(SizesTest, TheCacheIsNoLargerThanRunningSequencesCanFill) {
  const auto sizes = SizeEngine({}, TinySpec({0}, 64), FakeDevice(Gpu(99 * kGb)));
  ASSERT_TRUE(sizes.ok());
  EXPECT_EQ(sizes->info.pages, sizes->info.max_num_seqs * 64 / sizes->info.page_tokens);
}

TEST(SizesTest, TwoServersShareAGpuAndAThirdIsRefused) {
  EngineConfig config = ManySequences();
  config.gpu_memory_utilization = 0.45;
  int64_t free_bytes = 99 * kGb;
  for (int server = 0; server < 2; ++server) {
    const auto sizes = SizeEngine(config, HugeSpec(), FakeDevice(Gpu(free_bytes)));
    ASSERT_TRUE(sizes.ok()) << sizes.status();
    free_bytes -= Together(sizes->info.memory);
  }
  const std::string message = Refusal(config, FakeDevice(Gpu(free_bytes)));
  EXPECT_THAT(message, HasSubstr("gpu-memory-utilization 0.45 asks for 45.00 GB of fake, which has "
                                 "100.00 GB, of which 9.0"));
  EXPECT_THAT(message, HasSubstr("Lower it to 0.09,"));
  EXPECT_THAT(message, HasSubstr("slots and work space 2.00 GB, context and code 3.00 GB"));
}

TEST(SizesTest, ABytesSizedCacheNeedsOnlyToBeFree) {
  EngineConfig config;
  config.kv_cache_bytes = 20 * kGb;
  // More than the share, and less than what is free.
  config.gpu_memory_utilization = 0.1;
  const auto sizes = SizeEngine(config, TinySpec({0}), FakeDevice(Gpu(40 * kGb)));
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_GT(sizes->info.pages * sizes->info.page_bytes, 20 * kGb - sizes->info.page_bytes);
  const std::string message = Refusal(config, FakeDevice(Gpu(24 * kGb)));
  EXPECT_THAT(message,
              HasSubstr("KV cache 20.00 GB. fake has 100.00 GB, of which 24.00 GB are free"));
  EXPECT_THAT(message, HasSubstr(": lower kv-cache-bytes, lower max-num-seqs"));
}

// The sum includes estimates, so some free memory is always left.
TEST(SizesTest, SomeOfAGpusFreeMemoryIsSpared) {
  constexpr int64_t kSpared = int64_t{256} << 20;
  const auto free_left = [](const EngineConfig& config, int64_t free_bytes) {
    const auto sizes = SizeEngine(config, HugeSpec(), FakeDevice(Gpu(free_bytes)));
    EXPECT_TRUE(sizes.ok()) << sizes.status();
    if (!sizes.ok()) return int64_t{0};
    int64_t taken = 0;
    for (const MemoryBudget::Part& part : sizes->info.memory.parts) {
      if (part.name != "to spare") taken += part.bytes;
    }
    return free_bytes - taken;
  };
  EngineConfig config = ManySequences();
  config.gpu_memory_utilization = 0.999;
  EXPECT_GE(free_left(config, 100 * kGb), kSpared);
  config.gpu_memory_utilization = 0.9;
  EXPECT_GE(free_left(config, 90 * kGb), kSpared);
  EXPECT_LT(free_left(config, 99 * kGb), 9 * kGb + (1 << 26)) << "outside of the share is enough";

  config = {};
  config.kv_cache_bytes = 20 * kGb;
  const auto fits = [&](int64_t free_bytes) {
    return SizeEngine(config, TinySpec({0}), FakeDevice(Gpu(free_bytes))).ok();
  };
  int64_t low = 20 * kGb, high = 40 * kGb;  // the least free memory that is enough
  while (high - low > 1) (fits((low + high) / 2) ? high : low) = (low + high) / 2;
  const auto sizes = SizeEngine(config, TinySpec({0}), FakeDevice(Gpu(high)));
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_GE(free_left(config, 40 * kGb), kSpared);
  EXPECT_GE(high - 25 * kGb, kSpared);
  EXPECT_LT(high - 25 * kGb, kSpared + kGb / 10);
}

// All sequences at full length would take more bytes than 64 bits can count.
TEST(SizesTest, AnImmenseModelTakesWhatIsLeft) {
  const ModelSpec spec = TinySpec(std::vector<int32_t>(1024, 0), /*max_positions=*/1 << 27);
  EngineConfig config;
  config.page_tokens = 1 << 24;
  config.max_num_seqs = 1 << 26;
  FakeOptions options = Gpu(int64_t{1} << 62);
  options.memory_bytes = options.free_bytes;
  const auto sizes = SizeEngine(config, spec, FakeDevice(options));
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  const MemoryBudget& sum = sizes->info.memory;
  EXPECT_LE(Together(sum), sum.usable_bytes);
  EXPECT_GT(Together(sum), sum.usable_bytes - sizes->info.page_bytes);
}

TEST(SizesTest, EosIdsThatAreNeverDrawnAreIgnored) {
  const ModelSpec spec = TinySpec({0});
  EngineInfo info;
  GenerationDefaults many;
  for (int32_t id = 0; id < 32; ++id) many.eos_ids.push_back(id);
  const absl::Status refused = SetGenerationDefaults(many, SampledVocab({}, spec), &info);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr("32 EOS ids"));

  const GenerationDefaults defaults = {.eos_ids = {61, 60, 7}};
  ASSERT_TRUE(SetGenerationDefaults(defaults, SampledVocab({}, spec), &info).ok());
  EXPECT_THAT(info.defaults.eos_ids, ElementsAre(60, 7));
  EXPECT_THAT(info.ignored_eos_ids, ElementsAre(61));
  ASSERT_TRUE(SetGenerationDefaults(defaults, SampledVocab({.valid = 60}, spec), &info).ok());
  EXPECT_THAT(info.defaults.eos_ids, ElementsAre(7));
  EXPECT_THAT(info.ignored_eos_ids, ElementsAre(61, 60));
}

TEST(SizesTest, TheSumInOneLine) {
  const auto sizes = SizeEngine(ManySequences(), HugeSpec(), FakeDevice(Gpu(99 * kGb)));
  ASSERT_TRUE(sizes.ok()) << sizes.status();
  EXPECT_THAT(
      Describe(sizes->info.memory),
      MatchesRegex("fake has 100.00 GB, of which 99.00 GB are free; up to 90.00 GB will be used: "
                   "weights .*, activations .* MB, slots and work space 2.00 GB, "
                   "context and code 3.00 GB, KV cache .* GB"));
}

TEST(SizesTest, AShareTooSmallForTheModelListsTheParts) {
  EngineConfig config;
  config.gpu_memory_utilization = 0.05;
  const std::string message = Refusal(config, FakeDevice(Gpu(99 * kGb)));
  EXPECT_THAT(message, HasSubstr("weights "));
  EXPECT_THAT(message, HasSubstr("activations "));
  EXPECT_THAT(message, HasSubstr("gpu-memory-utilization 0.05 allows 5.00 GB: raise"));
}

TEST(SizesTest, WhatAllocTakesIsCountedNotWhatItIsAskedFor) {
  FakeOptions options = Gpu(99 * kGb);
  const auto exact = SizeEngine({}, TinySpec({0}), FakeDevice(options));
  options.alloc_multiple = 1 << 21;
  const auto rounded = SizeEngine({}, TinySpec({0}), FakeDevice(options));
  ASSERT_TRUE(exact.ok() && rounded.ok());
  for (size_t part = 0; part < 2; ++part) {
    EXPECT_EQ(rounded->info.memory.parts[part].bytes % (1 << 21), 0);
    EXPECT_GT(rounded->info.memory.parts[part].bytes, exact->info.memory.parts[part].bytes);
  }
}

TEST(SizesTest, AHandfulOfCacheBytesIsToldTheLeast) {
  const FakeDevice device({.page_tokens = 4});
  EngineConfig config;
  config.kv_cache_bytes = 1;
  const auto whole = SizeEngine({}, TinySpec({0}), device);
  ASSERT_TRUE(whole.ok());
  const int64_t least = 2 * whole->info.page_bytes;
  EXPECT_EQ(
      Refusal(config, device),
      absl::StrCat("kv-cache-bytes 1 are too few: the smallest useful KV cache, which holds 8 "
                   "tokens, takes ",
                   least));
  config.kv_cache_bytes = least - 1;
  EXPECT_THAT(Refusal(config, device), HasSubstr("too few"));
  config.kv_cache_bytes = least;
  const auto smallest = SizeEngine(config, TinySpec({0}), device);
  ASSERT_TRUE(smallest.ok()) << smallest.status();
  EXPECT_EQ(smallest->info.max_model_len, 8);
}

TEST(SizesTest, PageTablesBeyondTheirIndexAreRefused) {
  EngineConfig config = ManySequences();
  config.page_tokens = 8;
  // A million tokens for each of 20,000 sequences: 131,072 pages each.
  const auto sizes = [&] { return SizeEngine(config, HugeSpec(), FakeDevice(Gpu(99 * kGb))); };
  const absl::Status status = sizes().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(status.message(),
            "page tables of 20000 sequences of 1048576 tokens have 2621440000 entries, and "
            "2147483647 are the most: lower max-num-seqs or max-model-len, or raise page-tokens");
  config.page_tokens = 16;
  EXPECT_TRUE(sizes().ok()) << sizes().status();
}

TEST(SizesTest, WhatDoesNotFitSaysWhatToChange) {
  const FakeDevice small({.memory_bytes = 1 << 20});
  EngineConfig config;
  config.kv_cache_bytes = 1 << 30;
  const std::string message = Refusal(config, small);
  EXPECT_THAT(message, HasSubstr("KV cache 1.07 GB"));
  EXPECT_THAT(message, HasSubstr("lower kv-cache-bytes"));
  EXPECT_THAT(Refusal({}, FakeDevice({.memory_bytes = 4096})), HasSubstr("give it more memory"));
  config = {};
  config.page_tokens = 12;
  EXPECT_TRUE(absl::IsInvalidArgument(SizeEngine(config, TinySpec({0}), FakeDevice({})).status()));
}

}  // namespace
}  // namespace baram::testing
