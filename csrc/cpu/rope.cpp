// rope_: rotary positions, in place: the pairs (i, i + D / 2) of every head turn by the angle of
// their token.
//
// Bound by memory: one read and one write of what a projection has just written, no copy, so that
// attention goes on reading queries, keys and values with one stride. A task is kTaskRows tokens;
// cosines and sines are loaded once for all heads.
#include "core/kernel.h"

namespace coldpress {

COLDPRESS_KERNEL(rope_rows, float* x, int64_t stride, int64_t rows, int64_t heads, int64_t half,
                 const float* cos, const float* sin)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void rope_rows(float* x, int64_t stride, int64_t rows, int64_t heads, int64_t half,
               const float* cos, const float* sin) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t d = 0; d < half; d += kLanes) {
      const int64_t n = half - d;
      const Vec c = load_first(cos + row * half + d, n), s = load_first(sin + row * half + d, n);
      for (int64_t head = 0; head < heads; ++head) {
        float* at = x + row * stride + head * 2 * half + d;
        const Vec first = load_first(at, n), second = load_first(at + half, n);
        store_first(first * c - second * s, at, n);
        store_first(second * c + first * s, at + half, n);
      }
    }
  }
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch.h"

namespace coldpress {
namespace {

constexpr int64_t kTaskRows = 32;

void rope_(Tensor x, const Tensor& cos, const Tensor& sin) {
  STD_TORCH_CHECK(x.dim() == 3, "coldpress::rope_: x must be (T, H, D)");
  const int64_t T = x.size(0), heads = x.size(1), half = x.size(2) / 2, stride = x.stride(0);
  STD_TORCH_CHECK(x.size(2) == 2 * half && cos.numel() == T * half && sin.numel() == T * half,
                  "coldpress::rope_: cos and sin must be (T, D / 2), D even");
  STD_TORCH_CHECK((heads < 2 || x.stride(1) == 2 * half) && (half < 1 || x.stride(2) == 1),
                  "coldpress::rope_: x must have contiguous heads and widths");
  floats(x, "rope_: x");
  const float* cos_data = packed_floats(cos, "rope_: cos");
  const float* sin_data = packed_floats(sin, "rope_: sin");
  float* data = out_floats(x);
  const auto kernel = COLDPRESS_SELECT(rope_rows);
  for_each_task(ceil_div(T, kTaskRows), [&](int64_t task) {
    const int64_t row = task * kTaskRows;
    kernel(data + row * stride, stride, std::min(kTaskRows, T - row), heads, half,
           cos_data + row * half, sin_data + row * half);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("rope_", TORCH_BOX(&rope_)); }

}  // namespace coldpress
#endif
