// One row of a depthwise convolution, for the op of that name and the fused inverted residual.
//
// Vectors run over channels, eight neighbouring outputs at a time: each tap is loaded once for
// them, and eight chains of additions keep both FMA units busy. Taps in the padding are left out,
// which depends on the position in the image alone.
#pragma once

#include "core/conv_shape.h"
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Some channels of a depthwise convolution: how many, and the floats from one pixel of the input,
// tap and pixel of the output to the next.
struct DepthwisePart {
  int64_t channels, pixel, tap, out;
};

// Up to 16 channels of the outputs [ox, ox + X), window columns [from, to). `rows`, `taps`, `bias`
// and `out` begin at the first of these channels, `left` of which are real unless `full`.
template <int X, bool full, Activation activation>
inline __attribute__((always_inline)) void depthwise_vec(const float* const* rows, int64_t c,
                                                         const Conv& conv,
                                                         const DepthwisePart& part,
                                                         const float* taps, const float* bias,
                                                         int64_t ox, int64_t from, int64_t to,
                                                         float* out, int64_t left) {
  const auto load = [&](const float* p) { return full ? Vec::load(p) : load_first(p, left); };
  const int64_t step = conv.stride * part.pixel;
  const int64_t first = (ox * conv.stride - conv.left + from * conv.dilation) * part.pixel + c;
  Vec acc[X];
#pragma GCC unroll 8
  for (int x = 0; x < X; ++x) acc[x] = Vec::set(0.0f);
  for (int64_t ky = 0; ky < conv.kernel_h; ++ky) {
    if (rows[ky] == nullptr) continue;
    const float* pixel = rows[ky] + first;
    const float* tap = taps + (ky * conv.kernel_w + from) * part.tap;
    for (int64_t kx = from; kx < to; ++kx) {
      const Vec weight = load(tap);
#pragma GCC unroll 8
      for (int x = 0; x < X; ++x) acc[x] = fma(load(pixel + x * step), weight, acc[x]);
      pixel += conv.dilation * part.pixel;
      tap += part.tap;
    }
  }
  const Vec shift = load(bias);
#pragma GCC unroll 8
  for (int x = 0; x < X; ++x) {
    const Vec value = activate(activation, acc[x] + shift);
    float* target = out + (ox + x) * part.out;
    full ? value.store(target) : store_first(value, target, left);
  }
}

// Sixteen scalars a vector, unrolled, would be code without end.
#if defined(COLDPRESS_ISA_IS_scalar)
constexpr bool kUnrolled = false;
#else
constexpr bool kUnrolled = true;
#endif

// The same for a window of 3 x 3: every tap unrolled, and the first column of the first output or
// the last of the last one may lie in the padding, so that a whole small row is one block.
template <int X, bool first, bool last, Activation activation>
inline __attribute__((always_inline)) void depthwise_3x3(const float* const* rows, int64_t c,
                                                         const Conv& conv,
                                                         const DepthwisePart& part,
                                                         const float* taps, const float* bias,
                                                         int64_t ox, float* out) {
  const int64_t step = conv.stride * part.pixel;
  const int64_t begin = (ox * conv.stride - conv.left) * part.pixel + c;
  Vec acc[X];
#pragma GCC unroll 8
  for (int x = 0; x < X; ++x) acc[x] = Vec::set(0.0f);
#pragma GCC unroll 3
  for (int ky = 0; ky < 3; ++ky) {
    if (rows[ky] == nullptr) continue;
    const float* pixel = rows[ky] + begin;
#pragma GCC unroll 3
    for (int kx = 0; kx < 3; ++kx) {
      const Vec weight = Vec::load(taps + (ky * 3 + kx) * part.tap);
#pragma GCC unroll 8
      for (int x = 0; x < X; ++x) {
        if ((first && x == 0 && kx == 0) || (last && x == X - 1 && kx == 2)) continue;
        acc[x] = fma(Vec::load(pixel + x * step + kx * part.pixel), weight, acc[x]);
      }
    }
  }
  const Vec shift = Vec::load(bias);
#pragma GCC unroll 8
  for (int x = 0; x < X; ++x) {
    activate(activation, acc[x] + shift).store(out + (ox + x) * part.out);
  }
}

// All channels of the outputs [ox, ox + X).
template <int X, Activation activation>
inline void depthwise_block(const float* const* rows, const Conv& conv, const DepthwisePart& part,
                            const float* taps, const float* bias, int64_t ox, int64_t from,
                            int64_t to, float* out) {
  int64_t c = 0;
  for (; c + kLanes <= part.channels; c += kLanes) {
    depthwise_vec<X, true, activation>(rows, c, conv, part, taps + c, bias + c, ox, from, to,
                                       out + c, kLanes);
  }
  if (c < part.channels) {
    depthwise_vec<X, false, activation>(rows, c, conv, part, taps + c, bias + c, ox, from, to,
                                        out + c, part.channels - c);
  }
}

// Columns of the window at `ox` that lie inside the image.
struct Columns {
  int64_t from, to;
};
inline Columns columns_inside(const Conv& conv, int64_t ox) {
  const int64_t column = ox * conv.stride - conv.left, gap = conv.dilation;
  const int64_t from = column < 0 ? (gap - 1 - column) / gap : 0;
  const int64_t past = conv.W > column ? (conv.W - column + gap - 1) / gap : 0;
  return {from, past < conv.kernel_w ? past : conv.kernel_w};
}

// Outputs [ox, ox + X) of a 3 x 3 window; false where more lies in the padding than the block
// knows.
template <int X, Activation activation>
inline bool depthwise_block_3x3(const float* const* rows, const Conv& conv,
                                const DepthwisePart& part, const float* taps, const float* bias,
                                int64_t ox, float* out) {
  if (ox + X > conv.OW) return false;
  const Columns begin = columns_inside(conv, ox), end = columns_inside(conv, ox + X - 1);
  const bool first = begin.from == 1, last = end.to == 2;
  if (begin.from > 1 || end.to < 2 || (X > 1 && (begin.to < 3 || end.from > 0))) return false;
  if (X > 2 && (columns_inside(conv, ox + 1).from > 0 || columns_inside(conv, ox + X - 2).to < 3)) {
    return false;
  }
  for (int64_t c = 0; c < part.channels; c += kLanes) {
#define CASE(f, l) \
  depthwise_3x3<X, f, l, activation>(rows, c, conv, part, taps + c, bias + c, ox, out + c)
    if (first && last) {
      CASE(true, true);
    } else if (first) {
      CASE(true, false);
    } else if (last) {
      CASE(false, true);
    } else {
      CASE(false, false);
    }
#undef CASE
  }
  return true;
}

// `rows` are the kernel_h rows of the input under the window, null where they lie in the padding;
// `taps` (kernel_h * kernel_w, C); out (OW, C).
template <Activation activation>
inline void depthwise_row(const float* const* rows, const Conv& conv, const DepthwisePart& part,
                          const float* taps, const float* bias, float* out) {
  constexpr bool common =
      kUnrolled && (activation == Activation::none || activation == Activation::relu ||
                    activation == Activation::relu6);
  const bool small = common && conv.kernel_h == 3 && conv.kernel_w == 3 && conv.dilation == 1 &&
                     part.channels % kLanes == 0;
  for (int64_t ox = 0; ox < conv.OW;) {
    if constexpr (common) {  // the others are rare, and each would compile all of it again
      if (small && depthwise_block_3x3<7, activation>(rows, conv, part, taps, bias, ox, out)) {
        ox += 7;
        continue;
      }
      if (small && depthwise_block_3x3<4, activation>(rows, conv, part, taps, bias, ox, out)) {
        ox += 4;
        continue;
      }
    }
    const Columns inside = columns_inside(conv, ox);
    const Columns ahead = ox + 8 <= conv.OW ? columns_inside(conv, ox + 7) : Columns{1, 0};
    if (inside.from == 0 && ahead.from == 0 && ahead.to == conv.kernel_w &&
        inside.to == conv.kernel_w) {
      depthwise_block<8, activation>(rows, conv, part, taps, bias, ox, 0, conv.kernel_w, out);
      ox += 8;
    } else {
      depthwise_block<1, activation>(rows, conv, part, taps, bias, ox, inside.from, inside.to, out);
      ox += 1;
    }
  }
}

inline void depthwise_row(Activation activation, const float* const* rows, const Conv& conv,
                          const DepthwisePart& part, const float* taps, const float* bias,
                          float* out) {
  with_activation(activation,
                  [&](auto known) { depthwise_row<known()>(rows, conv, part, taps, bias, out); });
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
