// MemoryBudget: totals, checks and their error messages.
#include "engine/memory_budget.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/blame.h"

namespace baram {
namespace {

// "weights 16.06 GB, activations 1.20 GB"
std::string ListParts(const MemoryBudget& budget) {
  return absl::StrJoin(budget.parts, ", ", [](std::string* out, const MemoryBudget::Part& part) {
    absl::StrAppend(out, part.name, " ", ShowBytes(part.bytes));
  });
}

// "143.77 GB, of which 60.00 GB are free"
std::string ShowMemory(const MemoryBudget& budget) {
  if (budget.free_bytes == 0 && !budget.own_memory) return ShowBytes(budget.total_bytes);
  return absl::StrCat(ShowBytes(budget.total_bytes), ", of which ", ShowBytes(budget.free_bytes),
                      " are free");
}

}  // namespace

std::string ShowBytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e9) return absl::StrFormat("%.2f GB", value / 1e9);
  if (value >= 1e6) return absl::StrFormat("%.1f MB", value / 1e6);
  return absl::StrCat(bytes, " bytes");
}

int64_t PartsBytes(const MemoryBudget& budget) {
  int64_t bytes = 0;
  for (const MemoryBudget::Part& part : budget.parts) bytes += part.bytes;
  return bytes;
}

std::string Describe(const MemoryBudget& budget) {
  return absl::StrCat(budget.device, " has ", ShowMemory(budget), "; up to ",
                      ShowBytes(PartsBytes(budget)), " will be used: ", ListParts(budget));
}

absl::Status CheckFreeMemory(const MemoryBudget& budget) {
  if (!budget.own_memory || budget.usable_bytes <= budget.free_bytes) return absl::OkStatus();
  const double free_share =
      static_cast<double>(budget.free_bytes) / static_cast<double>(budget.total_bytes);
  return BlameSetting(
      absl::FailedPreconditionError(absl::StrFormat(
          "gpu-memory-utilization %.2f asks for %s of %s, which has %s; other processes hold the "
          "rest. Lower it to %.2f, free memory there, or take another GPU. At least %s is needed: "
          "%s",
          budget.share, ShowBytes(budget.usable_bytes), budget.device, ShowMemory(budget),
          std::floor(free_share * 100) / 100, ShowBytes(PartsBytes(budget)), ListParts(budget))),
      "gpu-memory-utilization");
}

std::string DescribeShortage(const MemoryBudget& budget) {
  const bool known = !budget.own_memory && budget.free_bytes > 0;
  if (!known || PartsBytes(budget) <= budget.free_bytes) return "";
  return absl::StrCat("up to ", ShowBytes(PartsBytes(budget)), " of memory will be used, and only ",
                      ShowBytes(budget.free_bytes),
                      " are free: other processes hold the rest. Lower kv-cache-bytes, or free "
                      "memory, or the system may end the server when it needs them");
}

absl::Status CheckFits(const MemoryBudget& budget) {
  const int64_t needed = PartsBytes(budget);
  if (needed <= budget.usable_bytes) return absl::OkStatus();
  const std::string what =
      absl::StrCat("At least ", ShowBytes(needed), " is needed: ", ListParts(budget), ". ");
  if (!budget.own_memory) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, "The process may use ", ShowBytes(budget.usable_bytes), " of the ",
        ShowBytes(budget.total_bytes), " it has: give it more memory, or lower kv-cache-bytes, ",
        "max-num-batched-tokens, max-num-seqs or max-model-len"));
  }
  const bool shared = budget.share > 0;
  const std::string cap = shared ? absl::StrFormat(" and gpu-memory-utilization %.2f allows %s",
                                                   budget.share, ShowBytes(budget.usable_bytes))
                                 : "";
  return absl::FailedPreconditionError(absl::StrCat(
      what, budget.device, " has ", ShowMemory(budget), cap, ": ",
      shared ? "raise gpu-memory-utilization" : "lower kv-cache-bytes",
      ", lower max-num-seqs, max-num-batched-tokens or max-model-len, or take another GPU"));
}

}  // namespace baram
