// OpBed: lays out each kind of case in device memory.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "kernels/check.h"
#include "tests/kernels/op_bed.h"

namespace baram::testing {
namespace {

// A factor of a sum, or its magnitude.
std::vector<float> Factor(std::vector<float> values, bool magnitudes) {
  if (magnitudes) {
    for (float& value : values) value = std::fabs(value);
  }
  return values;
}

int32_t PagesOf(const std::vector<Chunk>& chunks, int32_t page_tokens) {
  int32_t pages = 0;
  for (const Chunk& chunk : chunks) {
    pages += (chunk.context + chunk.count + page_tokens - 1) / page_tokens;
  }
  return pages + 2;  // the first and the last belong to no sequence
}

int32_t Tokens(const std::vector<Chunk>& chunks) {
  int32_t tokens = 0;
  for (const Chunk& chunk : chunks) tokens += chunk.count;
  return tokens;
}

std::vector<int32_t> Contexts(const std::vector<Chunk>& chunks) {
  std::vector<int32_t> contexts;
  for (const Chunk& chunk : chunks) contexts.push_back(chunk.context);
  return contexts;
}

int32_t Longest(const std::vector<Chunk>& chunks) {
  int32_t longest = 0;
  for (const Chunk& chunk : chunks) longest = std::max(longest, chunk.context + chunk.count);
  return longest;
}

}  // namespace

PreparedOp OpBed::Lay(const GemmCase& c, RowRange rows, bool magnitudes) {
  const DType activation = Rounding(Role::kActivation);
  GemmArgs args;
  args.a = Input(Role::kActivation, Factor(Random("a", c.rows, c.k, 1.0f, activation), magnitudes),
                 c.k, rows);
  const std::vector<float> weight =
      Factor(Random("weight", c.n, c.k, 1.0f, rounding_.weight), magnitudes);
  args.weight = Weight(weight, c.n, c.k);
  if (c.bias) {
    args.bias = Put(Factor(Random("bias", 1, c.n, 4.0f, DType::kF32), magnitudes));
  }
  args.scale = c.scale;
  args.out = Watch("out", c.out, Layout(c.out, rows.end - rows.begin, c.n), rows.begin);
  return {args, 0, {}};
}

PreparedOp OpBed::Lay(const NormCase& c, RowRange rows, bool) {
  NormArgs args;
  args.x = Input(c.x, Random("x", c.rows, c.d, 2.0f, Rounding(c.x)), c.d, rows);
  args.weight = NormWeight("weight", c.d);
  args.eps = 1e-5f;
  args.out = Watch("out", c.out, Layout(c.out, rows.end - rows.begin, c.d), rows.begin);
  return {args, 0, {}};
}

PreparedOp OpBed::Lay(const AddNormCase& c, RowRange rows, bool) {
  AddNormArgs args;
  args.branch = Input(c.branch, Random("branch", c.rows, c.d, 1.5f, Rounding(c.branch)), c.d, rows);
  const auto residual = Random("residual", c.rows, c.d, 3.0f, Rounding(Role::kResidual));
  args.residual =
      Watch("residual", Role::kResidual, Input(Role::kResidual, residual, c.d, rows), rows.begin);
  if (c.post) args.post_weight = NormWeight("post", c.d);
  if (c.pre) args.pre_weight = NormWeight("pre", c.d);
  args.scale = c.scale;
  args.eps = 1e-5f;
  args.out = Watch("out", Role::kActivation, Layout(Role::kActivation, rows.end - rows.begin, c.d),
                   rows.begin);
  return {args, 0,
          [this, tensor = args.residual, part = Part(residual, c.d, rows)] { Fill(tensor, part); }};
}

PreparedOp OpBed::Lay(const ActCase& c, RowRange rows, bool magnitudes) {
  ActArgs args;
  const auto values = Random("gate_up", c.rows, 2 * c.f, 3.0f, Rounding(Role::kActivation));
  args.gate_up = Input(Role::kActivation, Factor(values, magnitudes), 2 * c.f, rows);
  args.kind = c.kind;
  args.out = Watch("out", Role::kActivation, Layout(Role::kActivation, rows.end - rows.begin, c.f),
                   rows.begin);
  return {args, 0, {}};
}

PreparedOp OpBed::Lay(const EmbedCase& c, RowRange rows, bool) {
  std::vector<int32_t> ids;
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    ids.push_back(static_cast<int32_t>((t * t * 5 + t) % c.vocab));
  }
  const std::vector<Chunk> chunks = {{0, static_cast<int32_t>(ids.size())}};
  BindSlots(chunks, limits_.max_step_tokens, {0}, {0});
  EmbedArgs args;
  args.step = Step(chunks, ids);
  args.table = Weight(Random("table", c.vocab, c.d, 1.0f, rounding_.weight), c.vocab, c.d);
  args.scale = c.scale;
  args.out = Watch("out", c.out, Layout(c.out, rows.end - rows.begin, c.d), rows.begin);
  return {args, 0, {}};
}

PreparedOp OpBed::Lay(const GatherRowsCase& c, RowRange rows, bool) {
  std::vector<int32_t> index;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    index.push_back(static_cast<int32_t>((r * 7 + 3) % c.from));
  }
  GatherRowsArgs args;
  args.x = Input(c.type, Random("x", c.from, c.d, 1.0f, Rounding(c.type)), c.d, {0, c.from});
  args.index = Put(index);
  args.out = Watch("out", c.type, Layout(c.type, rows.end - rows.begin, c.d), rows.begin);
  return {args, 0, {}};
}

std::vector<float> OpBed::StoreKvRows(const StoreKvCase& c, const char* what,
                                      const std::vector<Chunk>& chunks, StoredValues kind) const {
  const int64_t value_columns = int64_t{c.head.kv_heads} * c.head.head_dim;
  const int64_t columns = int64_t{c.head.heads} * c.head.head_dim + 2 * value_columns;
  std::vector<float> rows =
      Random(what, Tokens(chunks), columns, 1.0f, Rounding(Role::kActivation));
  if (kind == StoredValues::kRandom || limits_.for_timing) return rows;
  int64_t row = 0;
  for (const Chunk& chunk : chunks) {
    for (int32_t i = 0; i < chunk.count; ++i, ++row) {
      const float sign = (chunk.context + i) % 2 == 0 ? 1.0f : -1.0f;
      std::fill_n(rows.begin() + (row + 1) * columns - value_columns, value_columns,
                  sign * kProbeValue);
    }
  }
  return rows;
}

PreparedOp OpBed::Lay(const StoreKvCase& c, RowRange rows, bool) {
  const int32_t hd = c.head.head_dim;
  const int64_t columns = int64_t{c.head.heads + 2 * c.head.kv_heads} * hd;
  const std::vector<int32_t> none(c.chunks.size(), 0);
  StoreKvArgs args;
  args.pool = Pool({c.head, 2, c.page_tokens}, PagesOf(c.chunks, c.page_tokens));
  args.layer = {.group = 1, .index = 1};

  // Earlier tokens: a sequence has no unwritten rows below its length.
  const auto store = [&](const std::vector<Chunk>& chunks, const std::vector<float>& qkv) {
    args.step = Step(chunks, std::vector<int32_t>(Tokens(chunks), 0));
    args.qkv = Input(Role::kActivation, qkv, columns, {0, Tokens(chunks)});
    RunOp(device_, args);
  };
  std::vector<Chunk> before;
  for (const Chunk& chunk : c.chunks) before.push_back({0, chunk.context});
  BindSlots(c.chunks, c.page_tokens, none, none);
  store(before, StoreKvRows(c, "before", before, StoredValues::kProbe));
  if (c.q_norm) args.q_norm = NormWeight("q_norm", hd);
  if (c.k_norm) args.k_norm = NormWeight("k_norm", hd);
  args.rope = Rope(Longest(c.chunks), c.rotary_dim, c.layout);
  if (rows.begin > 0) {
    BindSlots(c.chunks, c.page_tokens, Contexts(c.chunks), none);
    store(Cut(c.chunks, {0, rows.begin}), StoreKvRows(c, "qkv", c.chunks, StoredValues::kProbe));
  }

  const std::vector<Chunk> cut = Cut(c.chunks, rows);
  BindSlots(c.chunks, c.page_tokens, Contexts(cut), none);
  args.step = Step(cut, std::vector<int32_t>(Tokens(cut), 0));
  const std::vector<float> qkv = StoreKvRows(c, "qkv", c.chunks, StoredValues::kRandom);
  args.qkv = Input(Role::kActivation, qkv, columns, rows);
  Watch("q", Role::kActivation, args.qkv.Cols(0, int64_t{c.head.heads} * hd), rows.begin);
  return {args, 0,
          [this, tensor = args.qkv, part = Part(qkv, columns, rows)] { Fill(tensor, part); }};
}

void OpBed::ReadBack(const StoreKvCase& c, RowRange rows, const StoreKvArgs& args,
                     Outcome& outcome) {
  const HeadShape& head = args.pool.shape.head;
  const int32_t tokens = args.step.tokens;
  const int64_t columns = int64_t{head.heads} * head.head_dim;
  // What is stored in another layer of the same pages must not be visible.
  StoreKvArgs other = args;
  other.layer.index = 0;
  RunOp(device_, other);

  AttendArgs attend;
  attend.step = args.step;
  attend.pool = args.pool;
  attend.layer = args.layer;
  attend.q = Layout(Role::kActivation, tokens, columns);
  attend.out = Layout(Role::kActivation, tokens, columns);
  attend.scratch = Scratch(args.pool.shape);

  // A window of one token returns its value.
  std::vector<float> q(tokens * columns, 0.0f);
  Fill(attend.q, q);
  attend.window = 1;
  RunOp(device_, attend);
  outcome.outputs.push_back(
      {"v", Role::kActivation, rows.begin, tokens, columns, Values(attend.out)});

  // The same keys, with values that are known. A window of two and a one-hot query then reveal the
  // difference of that element of two keys.
  Fill(args.qkv, Part(StoreKvRows(c, "qkv", c.chunks, StoredValues::kProbe), args.qkv.cols, rows));
  RunOp(device_, args);
  RunOp(device_, other);
  attend.window = 2;
  Output keys{"k",    Role::kActivation, rows.begin,
              tokens, columns,           std::vector<float>(tokens * columns)};
  for (int32_t i = 0; i < head.head_dim; ++i) {
    for (int64_t h = 0; h < int64_t{tokens} * head.heads; ++h) {
      for (int32_t j = 0; j < head.head_dim; ++j) {
        q[h * head.head_dim + j] = i == j ? 1.0f : 0.0f;
      }
    }
    Fill(attend.q, q);
    RunOp(device_, attend);
    const std::vector<float> out = Values(attend.out);
    for (int64_t h = 0; h < int64_t{tokens} * head.heads; ++h) {
      keys.values[h * head.head_dim + i] = out[h * head.head_dim];
    }
  }
  outcome.outputs.push_back(std::move(keys));
}

void OpBed::WriteContext(const AttendCase& c, const KvPool& pool, bool magnitudes) {
  const int64_t columns = int64_t{c.head.heads + 2 * c.head.kv_heads} * c.head.head_dim;
  const int64_t value_columns = int64_t{c.head.kv_heads} * c.head.head_dim;
  std::vector<Chunk> whole;
  for (const Chunk& chunk : c.chunks) whole.push_back({0, chunk.context + chunk.count});
  BindSlots(whole, c.page_tokens, Contexts(whole), Contexts(whole));
  const int64_t before = used_;
  for (size_t slot = 0; slot < whole.size(); ++slot) {
    int32_t count = 0;
    for (int32_t begin = 0; begin < whole[slot].count; begin += count) {
      count = std::min(whole[slot].count - begin, limits_.max_step_tokens);
      std::vector<Chunk> one(whole.size(), Chunk{0, 0});
      one[slot] = {begin, count};
      StoreKvArgs args;
      args.step = Step(one, std::vector<int32_t>(count, 0));
      args.pool = pool;
      for (int32_t layer = 0; layer < c.layers; ++layer) {
        const std::string what = "qkv" + std::to_string(slot) + "." + std::to_string(layer);
        std::vector<float> qkv =
            Random(what.c_str(), whole[slot].count, columns, 1.0f, Rounding(Role::kActivation));
        for (int64_t i = 0; magnitudes && i < static_cast<int64_t>(qkv.size()); ++i) {
          if (i % columns >= columns - value_columns) qkv[i] = std::fabs(qkv[i]);
        }
        args.layer = {.group = 1, .index = layer};
        args.qkv = Input(Role::kActivation, qkv, columns, {begin, begin + count});
        RunOp(device_, args);
      }
      used_ = before;     // the inputs are no longer needed
      blocks_.resize(1);  // the pool
      tensors_.clear();
    }
  }
}

// Wherever a device keeps keys and values, they have its activation type.
void OpBed::FillPool(const KvPool& pool) {
  const int64_t bytes = pool.page_bytes * pool.pages;
  const std::vector<float> values =
      Random("pool", 1, bytes / DTypeBytes(own_.activation), 1.0f, own_.activation);
  FillRepeating(pool.data, bytes, own_.activation, values);
}

PreparedOp OpBed::Lay(const AttendCase& c, RowRange rows, bool magnitudes) {
  const int64_t columns = int64_t{c.head.heads} * c.head.head_dim;
  AttendArgs args;
  args.pool = Pool({c.head, c.layers, c.page_tokens}, PagesOf(c.chunks, c.page_tokens));
  args.layer = {.group = 1, .index = c.layers - 1};
  if (limits_.for_timing) {
    FillPool(args.pool);
  } else {
    WriteContext(c, args.pool, magnitudes);
  }

  const std::vector<Chunk> cut = Cut(c.chunks, rows);
  std::vector<int32_t> first_needed;
  PreparedOp op;
  for (const Chunk& chunk : cut) {
    first_needed.push_back(c.window > 0 ? std::max(0, chunk.context - c.window + 1) : 0);
    for (int32_t i = 0; i < chunk.count; ++i) {
      const int32_t keys = chunk.context + i + 1;
      op.context_tokens += c.window > 0 ? std::min(keys, c.window) : keys;
    }
  }
  // The same pages as in WriteContext, whatever the cut.
  BindSlots(c.chunks, c.page_tokens, Contexts(cut), first_needed);
  args.step = Step(cut, std::vector<int32_t>(Tokens(cut), 0));
  const auto q = Random("q", Tokens(c.chunks), columns, 1.0f, Rounding(Role::kActivation));
  args.q = Input(Role::kActivation, q, columns, rows);
  args.window = c.window;
  args.scale = 1.0f / std::sqrt(static_cast<float>(c.head.head_dim));
  args.out = Watch("out", Role::kActivation,
                   Layout(Role::kActivation, rows.end - rows.begin, columns), rows.begin);
  args.scratch = Scratch(args.pool.shape);
  if (!limits_.for_timing) {
    pool_before_ = Read(args.pool.data, args.pool.page_bytes * args.pool.pages);
  }
  op.args = args;
  return op;
}

}  // namespace baram::testing
