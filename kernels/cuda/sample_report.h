// What Sample reports from the raw logits: the token's log-probability and rank, and the likeliest
// tokens, found the way top-k finds its bound.
#ifndef BARAM_KERNELS_CUDA_SAMPLE_REPORT_H_
#define BARAM_KERNELS_CUDA_SAMPLE_REPORT_H_

#include <cstdint>

#include "kernels/cuda/instructions.h"
#include "kernels/cuda/prims/reduce.h"
#include "kernels/cuda/prims/select.h"
#include "kernels/cuda/sample_filter.h"
#include "kernels/cuda/sample_row.h"

namespace baram::cuda {

// Lists the `count` largest logits, the smallest ids among equals, and nothing else.
inline __device__ void ListLargest(const LogitRow& row, int32_t count, float start,
                                   SampleMemory& shared) {
  const uint32_t last = SelectKey(static_cast<Weight>(count), shared.select, [&](const auto& add) {
    row.ForTokens([&](int32_t, float x) {
      if (x >= start) add(KeyOf(x), Weight{1});
    });
  });
  int32_t own_above = 0;
  row.ForTokens([&](int32_t, float x) { own_above += KeyOf(x) > last; });
  const int32_t above = BlockReduce<Sum>(own_above, shared.ints);
  // Among the tokens equal to the last value the smallest ids win: those with the largest
  // complements.
  const uint32_t last_id =
      ~SelectKey(static_cast<Weight>(count - above), shared.select, [&](const auto& add) {
        row.ForTokens([&](int32_t token, float x) {
          if (KeyOf(x) == last) {
            add(~static_cast<uint32_t>(token), Weight{1});
          }
        });
      });
  if (threadIdx.x == 0) shared.select.list.found = 0;
  __syncthreads();
  row.ForTokens([&](int32_t token, float x) {
    const uint32_t key = KeyOf(x);
    if (key < last || (key == last && static_cast<uint32_t>(token) > last_id)) return;
    const int32_t at = AtomicAdd(&shared.select.list.found, 1);
    shared.select.list.tokens[at] = token;
    shared.select.list.values[at] = x;
  });
  __syncthreads();
}

// The `count` largest logits, smallest ids first among equals, as log-probabilities.
inline __device__ void ReportTop(const LogitRow& row, int32_t count, float own_largest,
                                 double log_sum, TokenResult* result, SampleMemory& shared) {
  const ShortList& list = shared.select.list;
  const float start = AtLeastTop(count, own_largest, shared);
  const bool is_short = start > kMasked || row.n <= ShortList::kMax;
  if (!is_short || !Shorten(row, start, shared.select.list)) ListLargest(row, count, start, shared);
  list.ForTokens([&](int32_t token, float x) {
    int32_t place = 0;
    for (int32_t i = 0; i < list.found; ++i) {
      const bool equal = list.values[i] == x;
      place += list.values[i] > x || (equal && list.tokens[i] < token);
    }
    if (place >= count) return;
    result->top_ids[place] = token;
    result->top_logprobs[place] = static_cast<float>(x - log_sum);
  });
}

// A scored token past the row counts as -infinity and ranks last.
inline __device__ void Report(const LogitRow& row, float largest, float own_largest, int32_t token,
                              int32_t wanted, TokenResult* result, SampleMemory& shared) {
  const bool known = token < row.n;
  const float chosen = known ? row.x[token] : kMasked;
  double own_sum = 0;
  int32_t own_rank = 0;
  row.ForTokens([&](int32_t, float x) {
    own_sum += expf(x - largest);
    own_rank += x >= chosen;
  });
  const double log_sum = largest + log(BlockReduce<Sum>(own_sum, shared.doubles));
  const int32_t rank = BlockReduce<Sum>(own_rank, shared.ints);
  const int32_t count = wanted < row.n ? wanted : row.n;
  if (threadIdx.x == 0) {
    result->logprob = static_cast<float>(chosen - log_sum);
    result->rank = rank + (known ? 0 : 1);
    result->top_count = count;
  }
  if (count > 0) ReportTop(row, count, own_largest, log_sum, result, shared);
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_SAMPLE_REPORT_H_
