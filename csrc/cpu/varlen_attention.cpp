// varlen_attention: softmax(Q K^T * scale) V inside each sequence of a packed batch, no padding.
//
// One task is one head of one sequence. Keys are transposed and values gathered into scratch that
// stays in L2 (T = 256, head width 64: 128 KB); six query rows at a time then make scores, an exact
// two-pass softmax, and their output, all in L1. Both products are the register block of
// core/gemm.h.
#include "core/kernel.h"

namespace coldpress {

// One head of one sequence: q, k, v and out are rows of `width` floats, `stride` (out_stride)
// apart. `scratch` holds attention_scratch(T, width) floats.
COLDPRESS_KERNEL(attention_head, const float* q, const float* k, const float* v, int64_t stride,
                 int64_t T, int64_t width, float scale, float* scratch, float* out,
                 int64_t out_stride)

constexpr int64_t kQueryRows = 6;

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/gemm.h"
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Softmax over the first T of a row of scores, in place; the padding behind them becomes 0.
void softmax_row(float* scores, int64_t T, float scale) {
  const float lowest = -__builtin_inff();
  Vec highest = Vec::set(lowest);
  for (int64_t t = 0; t < T; t += kLanes) {
    const Vec scaled = load_first(scores + t, T - t, lowest) * Vec::set(scale);
    highest = max(highest, scaled);
    store_first(scaled, scores + t, T - t);
  }
  const Vec top = Vec::set(reduce_max(highest));
  Vec sum = Vec::set(0.0f);
  for (int64_t t = 0; t < T; t += kLanes) {
    const Vec weight = exp(load_first(scores + t, T - t, lowest) - top);
    store_first(weight, scores + t, T - t);
    sum = sum + load_first(scores + t, T - t);
  }
  const Vec total = Vec::set(1.0f / reduce_add(sum));
  for (int64_t t = 0; t < T; t += kLanes) {
    store_first(load_first(scores + t, T - t) * total, scores + t, T - t);
  }
}

}  // namespace

void attention_head(const float* q, const float* k, const float* v, int64_t stride, int64_t T,
                    int64_t width, float scale, float* scratch, float* out, int64_t out_stride) {
  const int64_t keys = round_up(T, kLanes), columns = round_up(width, kLanes);
  float* transposed = scratch;                // (width, keys)
  float* values = transposed + width * keys;  // (T, columns)
  float* scores = values + T * columns;       // (kQueryRows, keys)
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t d = 0; d < width; ++d) transposed[d * keys + t] = k[t * stride + d];
    for (int64_t d = 0; d < columns; ++d)
      values[t * columns + d] = d < width ? v[t * stride + d] : 0;
  }
  for (int64_t d = 0; d < width; ++d) {
    for (int64_t t = T; t < keys; ++t) transposed[d * keys + t] = 0.0f;
  }
  for (int64_t row = 0; row < T; row += kQueryRows) {
    const int64_t rows = T - row < kQueryRows ? T - row : kQueryRows;
    matmul(q + row * stride, stride, transposed, keys, rows, keys / kLanes, width,
           [&](int64_t r, int64_t vec, Vec sum) { sum.store(scores + r * keys + vec * kLanes); });
    for (int64_t r = 0; r < rows; ++r) softmax_row(scores + r * keys, T, scale);
    matmul(scores, keys, values, columns, rows, columns / kLanes, T,
           [&](int64_t r, int64_t vec, Vec sum) {
             store_first(sum, out + (row + r) * out_stride + vec * kLanes, width - vec * kLanes);
           });
  }
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch.h"

namespace coldpress {
namespace {

int64_t attention_scratch(int64_t T, int64_t width) {
  const int64_t keys = ceil_div(T, 16) * 16, columns = ceil_div(width, 16) * 16;
  return width * keys + T * columns + kQueryRows * keys;
}

// q, k, v: (T, H, D) with one common token stride, heads and widths contiguous.
Tensor varlen_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens,
                        double scale) {
  const int64_t tokens = q.size(0), heads = q.size(1), width = q.size(2);
  const int64_t stride = q.stride(0);
  for (const Tensor* t : {&q, &k, &v}) {
    STD_TORCH_CHECK(
        t->dim() == 3 && t->size(0) == tokens && t->size(1) == heads && t->size(2) == width &&
            (tokens < 2 || t->stride(0) == stride) && (heads < 2 || t->stride(1) == width) &&
            (width < 2 || t->stride(2) == 1),
        "coldpress::varlen_attention: q, k, v must be (T, H, D) alike, with one stride between "
        "tokens and contiguous heads and widths; pass .contiguous() of all three");
  }
  const int32_t* ends = bounds(cu_seqlens, tokens, 0, "varlen_attention");
  const int64_t sequences = cu_seqlens.numel() - 1;
  Tensor out = torch::stable::new_empty(q, {tokens, heads * width});
  const float* q_data = floats(q, "varlen_attention: q");
  const float* k_data = floats(k, "varlen_attention: k");
  const float* v_data = floats(v, "varlen_attention: v");
  float* out_data = out_floats(out);
  const auto kernel = COLDPRESS_SELECT(attention_head);
  for_each_task(sequences * heads, [&](int64_t task) {
    const int64_t sequence = task / heads, head = task % heads;
    const int64_t begin = ends[sequence], T = ends[sequence + 1] - begin;
    const int64_t at = begin * stride + head * width;
    const Scratch scratch(attention_scratch(T, width));
    kernel(q_data + at, k_data + at, v_data + at, stride, T, width, static_cast<float>(scale),
           scratch.get(), out_data + (begin * heads + head) * width, heads * width);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) {
  m.impl("varlen_attention", TORCH_BOX(&varlen_attention));
}

}  // namespace coldpress
#endif
