// The ops of the device "ref". Everything is fp32; sums run in double, in a fixed order, and are
// rounded once, so that a row's bits depend on nothing but the row (I10).
#ifndef BARAM_KERNELS_REF_REF_OPS_H_
#define BARAM_KERNELS_REF_REF_OPS_H_

#include "kernels/ops.h"
#include "kernels/slots.h"

namespace baram {

void RefEmbed(const EmbedArgs& args);
void RefNorm(const NormArgs& args);
void RefAddNorm(const AddNormArgs& args);
void RefGemm(const GemmArgs& args);
void RefStoreKv(const StoreKvArgs& args);
void RefAttend(const AttendArgs& args);
void RefAct(const ActArgs& args);
void RefGatherRows(const GatherRowsArgs& args);
void RefSample(const SampleArgs& args, SlotTable& slots);

// RMSNorm of one row or head; `out` may be `x`.
void RefRmsNorm(const float* x, const float* weight, float eps, int64_t n, float* out);

// A page: [layers_per_group][key, value][kv_heads][page_tokens][head_dim].
int64_t RefKvBytesPerPage(const KvShape& shape);
// Bytes of AttendArgs::scratch: the scores of one query head.
int64_t RefAttendScratchBytes(const KvShape& shape, const SlotShape& slots);

}  // namespace baram

#endif  // BARAM_KERNELS_REF_REF_OPS_H_
