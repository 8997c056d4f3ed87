// MemorySum: totals, checks and their error messages.
#include "engine/memory_sum.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/blame.h"

namespace baram {
namespace {

// "weights 16.06 GB, activations 1.20 GB"
std::string ListParts(const MemorySum& sum) {
  return absl::StrJoin(sum.parts, ", ", [](std::string* out, const MemorySum::Part& part) {
    absl::StrAppend(out, part.name, " ", ShowBytes(part.bytes));
  });
}

// "143.77 GB, of which 60.00 GB are free"
std::string ShowMemory(const MemorySum& sum) {
  return absl::StrCat(ShowBytes(sum.total_bytes), ", of which ", ShowBytes(sum.free_bytes),
                      " are free");
}

}  // namespace

std::string ShowBytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e9) return absl::StrFormat("%.2f GB", value / 1e9);
  if (value >= 1e6) return absl::StrFormat("%.1f MB", value / 1e6);
  return absl::StrCat(bytes, " bytes");
}

int64_t PartsBytes(const MemorySum& sum) {
  int64_t bytes = 0;
  for (const MemorySum::Part& part : sum.parts) bytes += part.bytes;
  return bytes;
}

std::string DescribeSum(const MemorySum& sum) {
  return absl::StrCat(sum.device, " has ", ShowMemory(sum), "; ", ShowBytes(PartsBytes(sum)),
                      " are taken: ", ListParts(sum));
}

absl::Status CheckShare(const MemorySum& sum) {
  if (!sum.own_memory || sum.usable_bytes <= sum.free_bytes) return absl::OkStatus();
  const double free_share =
      static_cast<double>(sum.free_bytes) / static_cast<double>(sum.total_bytes);
  return BlameSetting(
      absl::FailedPreconditionError(absl::StrFormat(
          "gpu-memory-utilization %.2f asks for %s of %s, which has %s; other processes hold the "
          "rest. Lower it to %.2f, free memory there, or take another GPU. At least %s is needed: "
          "%s",
          sum.share, ShowBytes(sum.usable_bytes), sum.device, ShowMemory(sum),
          std::floor(free_share * 100) / 100, ShowBytes(PartsBytes(sum)), ListParts(sum))),
      "gpu-memory-utilization");
}

absl::Status CheckFits(const MemorySum& sum) {
  const int64_t needed = PartsBytes(sum);
  if (needed <= sum.usable_bytes) return absl::OkStatus();
  const std::string what =
      absl::StrCat("At least ", ShowBytes(needed), " is needed: ", ListParts(sum), ". ");
  if (!sum.own_memory) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, "The process may use ", ShowBytes(sum.usable_bytes), " of the ",
        ShowBytes(sum.total_bytes), " it has: give it more memory, or lower kv-cache-bytes, ",
        "max-num-batched-tokens, max-num-seqs or max-model-len"));
  }
  const bool shared = sum.share > 0;
  const std::string cap = shared ? absl::StrFormat(" and gpu-memory-utilization %.2f allows %s",
                                                   sum.share, ShowBytes(sum.usable_bytes))
                                 : "";
  return absl::FailedPreconditionError(absl::StrCat(
      what, sum.device, " has ", ShowMemory(sum), cap, ": ",
      shared ? "raise gpu-memory-utilization" : "lower kv-cache-bytes",
      ", lower max-num-seqs, max-num-batched-tokens or max-model-len, or take another GPU"));
}

}  // namespace baram
