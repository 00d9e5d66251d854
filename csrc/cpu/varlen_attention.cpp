// varlen_attention: softmax(Q K^T * scale) V inside each sequence of a packed batch, no padding.
//
// One task is one head of one sequence, computed as core/attention.h says.
#include "core/attention_scratch.h"
#include "core/kernel.h"

namespace coldpress {

// One head of one sequence: q, k, v and out are rows of `width` floats, `stride` (out_stride)
// apart. `scratch` holds attention_scratch(T, width) floats.
COLDPRESS_KERNEL(attention_head, const float* q, const float* k, const float* v, int64_t stride,
                 int64_t T, int64_t width, float scale, float* scratch, float* out,
                 int64_t out_stride)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/attention.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void attention_head(const float* q, const float* k, const float* v, int64_t stride, int64_t T,
                    int64_t width, float scale, float* scratch, float* out, int64_t out_stride) {
  attend_head(q, k, v, stride, T, width, scale, scratch, out, out_stride);
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch.h"

namespace coldpress {
namespace {

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
