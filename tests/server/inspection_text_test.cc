// The output of `baram inspect`, on a CPU and on a GPU.
#include "server/inspection_text.h"

#include <gmock/gmock.h>

namespace baram::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const InspectedText kText = {absl::OkStatus(), 1000, "yes"};

Inspection Sample() {
  Inspection found;
  EngineInfo& info = found.info;
  info.architecture = "LlamaForCausalLM";
  info.family = "Llama";
  info.layers = 32;
  info.weight_bytes = 16'060'000'000;
  info.processor = "NVIDIA H200, 132 multiprocessors";
  info.page_tokens = 32;
  info.kv_bytes_per_token = 131072;
  info.pages = 1000;
  info.page_bytes = 32 * 131072;
  info.kv_tokens = 32000;
  found.memory_bytes = 143'770'000'000;
  return found;
}

TEST(InspectionTextTest, TheSumIsListedPartByPart) {
  Inspection found = Sample();
  found.info.memory = {.device = "cuda:0",
                       .own_memory = true,
                       .total_bytes = 143'770'000'000,
                       .free_bytes = 143'000'000'000,
                       .usable_bytes = 64'700'000'000,
                       .share = 0.45,
                       .parts = {{"weights", 16'060'000'000}, {"KV cache", 4'194'304'000}}};
  EXPECT_THAT(DescribeInspection(found, kText),
              HasSubstr("memory               143.77 GB\n"
                        "  free                    143.00 GB\n"
                        "  usable, share 0.45       64.70 GB\n"
                        "  weights                  16.06 GB\n"
                        "  KV cache                  4.19 GB\n"
                        "  together                 20.25 GB\n"
                        "fits                 32000 tokens of KV"));
}

TEST(InspectionTextTest, OnACpuTheWholeMemoryCounts) {
  Inspection found = Sample();
  found.info.kv_bytes_per_token = 0;
  found.info.memory.usable_bytes = 64'700'000'000;
  found.info.memory.parts = {{"texts", 183'500'000}};
  const std::string text = DescribeInspection(found, kText);
  EXPECT_THAT(text, HasSubstr("memory               143.77 GB\n"
                              "  usable                   64.70 GB\n"
                              "  texts                   183.50 MB\n"
                              "  together                183.50 MB\n"
                              "fits "));
  EXPECT_THAT(text,
              HasSubstr("KV cache             nothing beyond the windows, pages of 32 tokens"));
  EXPECT_THAT(text, HasSubstr("servable             yes\n"));
}

TEST(InspectionTextTest, WhatIsNotKnownIsLeftOut) {
  Inspection found = Sample();
  found.info.page_tokens = 0;
  found.servable = absl::FailedPreconditionError("it is too large");
  const std::string text = DescribeInspection(found, kText);
  EXPECT_THAT(text, HasSubstr("servable             no: it is too large\n"));
  for (const char* unknown : {"KV cache", "fits"}) {
    EXPECT_THAT(text, Not(HasSubstr(unknown)));
  }
}

TEST(InspectionTextTest, BothReasonsAreSaid) {
  Inspection found = Sample();
  found.servable = absl::FailedPreconditionError("it is too large");
  const std::string text = DescribeInspection(found, {absl::NotFoundError("no tokenizer"), 0, ""});
  EXPECT_THAT(text, HasSubstr("servable             no: no tokenizer\n"
                              "                     and: it is too large\n"));
  EXPECT_THAT(text, Not(HasSubstr("chat template")));
  EXPECT_THAT(text, Not(HasSubstr("EOS")));
}

}  // namespace
}  // namespace baram::server
