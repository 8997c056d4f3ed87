// CpuDevice: packing of weights, Embed and Gemm, which read them, and GatherRows.
#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/gemm_select.h"
#include "kernels/cpu/pack.h"
#include "kernels/float_types.h"
#include "kernels/rounding.h"
#include "kernels/shape_check.h"

namespace baram::cpu {
namespace {

// Columns of 16 rows that a worker packs at a time: about the cost of a barrier.
constexpr int64_t kPackColumnsPerTask = 4096;

// How far ahead the embedding table is prefetched: hardware prefetchers stop at every 4 KiB page.
constexpr int64_t kEmbedAheadBytes = 4096;

// The table is also the weight of the logits and packed as such. So each of its rows is spread over
// a panel, 4 bytes in every 64-byte line, and reading it moves 16 times its bytes: 128 KiB for a
// row of 4096 columns. That is little compared with the products of a prompt, or with the weights
// that a decode step reads.
void EmbedRow(const WeightView& table, int32_t token, float scale, DType to_type, void* to) {
  DCheck(token >= 0 && token < table.n, "a token id is inside the embedding table");
  const uint16_t* pairs = table.data + token / kPanelColumns * kPanelColumns * table.padded_k +
                          token % kPanelColumns * 2;
  const auto copy = [&](const auto& store) {
    for (int64_t k = 0; k < table.k; ++k) {
      const uint16_t* value = pairs + k / 2 * kPanelColumns * 2 + k % 2;
      if (k % 2 == 0) __builtin_prefetch(value + kEmbedAheadBytes / 2);
      store(k, F32FromBF16(*value) * scale);
    }
  };
  if (to_type == DType::kF32) {
    copy([to](int64_t k, float x) { static_cast<float*>(to)[k] = x; });
  } else {
    copy([&](int64_t k, float x) { StoreElement(to, to_type, k, x); });
  }
}

}  // namespace

int64_t CpuDevice::PackedBytes(const WeightShape& shape) const { return PackedWeightBytes(shape); }

void CpuDevice::PackWeight(const WeightShape& shape, const HostRows& source, int64_t row_begin,
                           void* packed) {
  PackRows(shape, source, row_begin, packed);
}

void CpuDevice::Embed(const EmbedArgs& args) {
  DCheckShapes(args);
  const WeightView table = ViewOf(args.table);
  Run(args.step.tokens, 8, [&](int64_t begin, int64_t end, const Worker&) {
    for (int64_t t = begin; t < end; ++t) {
      EmbedRow(table, args.step.token_ids[t], args.scale, args.out.dtype, args.out.Rows(t, 1).data);
    }
  });
}

void CpuDevice::Gemm(const GemmArgs& args) {
  DCheckShapes(args);
  if (args.a.rows == 0) return;
  GemmJob job;
  job.weight = ViewOf(args.weight);
  job.bias = args.bias;
  job.scale = args.scale;
  job.packed_a = gemm_scratch_.data();
  const GemmPlan plan = SelectGemm(args.a.rows, job.weight.n, job.weight.padded_k,
                                   kernels_->gemm_form, pool_.workers());
  job.block_k = plan.block_k;
  job.stream_out = plan.stream_out;
  const int64_t panels = CeilDivide(job.weight.n, kPanelColumns);
  const int64_t column_units = CeilDivide(job.weight.padded_k, plan.block_k);
  for (int64_t row = 0; row < args.a.rows; row += plan.chunk_rows) {
    const int64_t rows = std::min(plan.chunk_rows, args.a.rows - row);
    job.a = args.a.Rows(row, rows);
    job.out = args.out.Rows(row, rows);
    Run(kernels_->pack_a, job, CeilDivide(rows, 16) * column_units,
        kPackColumnsPerTask / plan.block_k);
    Run(kernels_->gemm, job, panels, plan.panels_per_task);
  }
}

void CpuDevice::GatherRows(const GatherRowsArgs& args) {
  DCheckShapes(args);
  const int64_t row_bytes = args.x.cols * DTypeBytes(args.x.dtype);
  Run(args.out.rows, 16, [&](int64_t begin, int64_t end, const Worker&) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(args.out.Rows(r, 1).data, args.x.Rows(args.index[r], 1).data, row_bytes);
    }
  });
}

}  // namespace baram::cpu
