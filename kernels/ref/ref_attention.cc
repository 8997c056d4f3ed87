// StoreKv and Attend as plain loops over fp32 pages.
#include <algorithm>
#include <cmath>

#include "kernels/ref/ref_ops.h"

namespace baram {
namespace {

// The page and the offset inside it of one position of one sequence.
struct KvPlace {
  float* page;
  int32_t offset;
};

KvPlace Locate(const StepView& step, const KvPool& pool, int32_t group, int32_t slot,
               int32_t position) {
  const int32_t index = position / pool.shape.page_tokens;
  const int32_t page = step.page_tables[group][int64_t{slot} * step.max_pages_per_slot + index];
  return {reinterpret_cast<float*>(static_cast<std::byte*>(pool.data) + page * pool.page_bytes),
          position % pool.shape.page_tokens};
}

// The head_dim elements of a key (plane 0) or a value (plane 1).
float* KvElement(const KvPlace& place, const KvShape& shape, int32_t layer, int plane,
                 int32_t kv_head) {
  const int64_t row =
      ((int64_t{layer} * 2 + plane) * shape.head.kv_heads + kv_head) * shape.page_tokens +
      place.offset;
  return place.page + row * shape.head.head_dim;
}

void Rotate(const RopeTable& rope, int32_t position, float* head) {
  if (rope.data == nullptr) return;
  const int32_t half = rope.rotary_dim / 2;
  const float* cosine = rope.data + int64_t{position} * rope.rotary_dim;
  const float* sine = cosine + half;
  for (int32_t i = 0; i < half; ++i) {
    const bool split = rope.layout == RopeLayout::kHalfSplit;
    float& a = head[split ? i : 2 * i];
    float& b = head[split ? i + half : 2 * i + 1];
    const double x = a;
    const double y = b;
    a = static_cast<float>(x * cosine[i] - y * sine[i]);
    b = static_cast<float>(y * cosine[i] + x * sine[i]);
  }
}

}  // namespace

int64_t RefKvBytesPerPage(const KvShape& shape) {
  return int64_t{shape.layers_per_group} * 2 * shape.head.kv_heads * shape.page_tokens *
         shape.head.head_dim * static_cast<int64_t>(sizeof(float));
}

int64_t RefAttendScratchBytes(const KvShape& shape, const SlotShape& slots) {
  return int64_t{slots.max_pages_per_slot} * shape.page_tokens *
         static_cast<int64_t>(sizeof(double));
}

void RefStoreKv(const StoreKvArgs& args) {
  const HeadShape& head = args.pool.shape.head;
  const int32_t hd = head.head_dim;
  for (int32_t t = 0; t < args.step.tokens; ++t) {
    if (args.step.token_slots[t] < 0) continue;  // padding
    const int32_t position = args.step.positions[t];
    float* q = args.qkv.Row<float>(t);
    float* k = q + int64_t{head.heads} * hd;
    float* v = k + int64_t{head.kv_heads} * hd;
    for (int32_t h = 0; h < head.heads + head.kv_heads; ++h) {
      const float* norm = h < head.heads ? args.q_norm : args.k_norm;
      float* x = q + int64_t{h} * hd;  // k heads follow q heads
      if (norm != nullptr) RefRmsNorm(x, norm, args.eps, hd, x);
      Rotate(args.rope, position, x);
    }
    const KvPlace place =
        Locate(args.step, args.pool, args.layer.group, args.step.token_slots[t], position);
    for (int32_t h = 0; h < head.kv_heads; ++h) {
      const auto element = [&](int plane) {
        return KvElement(place, args.pool.shape, args.layer.index, plane, h);
      };
      std::copy(k + int64_t{h} * hd, k + int64_t{h + 1} * hd, element(0));
      std::copy(v + int64_t{h} * hd, v + int64_t{h + 1} * hd, element(1));
    }
  }
}

void RefAttend(const AttendArgs& args) {
  const HeadShape& head = args.pool.shape.head;
  const int32_t hd = head.head_dim;
  double* scores = static_cast<double*>(args.scratch);  // [positions seen]
  for (int32_t t = 0; t < args.step.tokens; ++t) {
    if (args.step.token_slots[t] < 0) continue;  // padding
    const int32_t last = args.step.positions[t];
    const int32_t first = args.window > 0 ? std::max(0, last - args.window + 1) : 0;
    for (int32_t h = 0; h < head.heads; ++h) {
      const int32_t kv_head = h / (head.heads / head.kv_heads);
      const auto element = [&](int plane, int32_t position) {
        const KvPlace place =
            Locate(args.step, args.pool, args.layer.group, args.step.token_slots[t], position);
        return KvElement(place, args.pool.shape, args.layer.index, plane, kv_head);
      };
      const float* q = args.q.Row<float>(t) + int64_t{h} * hd;
      double largest = -INFINITY;
      for (int32_t p = first; p <= last; ++p) {
        const float* key = element(0, p);
        double dot = 0;
        for (int32_t i = 0; i < hd; ++i) dot += double{q[i]} * key[i];
        scores[p - first] = dot * args.scale;
        largest = std::max(largest, scores[p - first]);
      }
      double sum = 0;
      double out[kMaxHeadDim] = {};
      for (int32_t p = first; p <= last; ++p) {
        const double weight = std::exp(scores[p - first] - largest);
        const float* value = element(1, p);
        sum += weight;
        for (int32_t i = 0; i < hd; ++i) out[i] += weight * value[i];
      }
      float* result = args.out.Row<float>(t) + int64_t{h} * hd;
      for (int32_t i = 0; i < hd; ++i) result[i] = static_cast<float>(out[i] / sum);
    }
  }
}

}  // namespace baram
