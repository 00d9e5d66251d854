// The register block of the convolutions: R output pixels, each gathered through pointers, times V
// vectors of output channels.
//
// A window is a list of segments, runs of floats that are contiguous in the input (a pixel, or a
// row of the window where no border can cut it) and in the packed weights alike. So nothing is
// copied: an im2col of the same tile costs 5 % at 64 channels. Pixels outside the image are read
// from a row of zeros. Every output is one chain of fused multiply-adds over window row, window
// column and channel, whatever block, batch, thread or instruction set computes it (see gemm.h).
#pragma once

#include "core/conv_shape.h"
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Rows of a block by its width in vectors: 24 accumulators (16 at two vectors, 8 at one), so that
// the row pointers still fit the general registers.
template <int V>
constexpr int kConvRows = V == 4 ? 6 : 8;
#if defined(COLDPRESS_ISA_IS_avx512)
constexpr int kConvVecs = 4;
#else
constexpr int kConvVecs = 1;
#endif

// Floats of a panel's weights that stay in L2 while the pixels of a task pass over them.
constexpr int64_t kConvChunk = 2048 * kConvPanel;

// One panel of a convolution: `packed` (K, 64), `columns` of them real. bias, residual (may be
// null) and out begin at the panel's first channel; `zeros` holds C zeros. `far`: the output is on
// its way to memory, and fetching its lines early pays.
struct ConvPanel {
  const float* x;
  const Conv& conv;
  const float* zeros;
  const float* packed;
  const float* bias;
  int64_t columns;
  const float* residual;
  float* out;
  bool far;
};

// Which part of a block's work is done: V vectors from `channel` on, segments [first, last).
struct ConvPart {
  int64_t channel, first, last;
  bool final;
};

// Where the windows of R output pixels begin in the input.
template <int R>
struct Windows {
  int64_t offset[R], y[R], x[R];
};

// The windows of a 1 x 1 convolution at stride 1: the pixels themselves, from `first` on.
template <int R>
struct Pixels {
  int64_t first, real;
};

// Walks over output pixels in order.
class WindowWalk {
 public:
  WindowWalk(const Conv& conv, int64_t pixel) : conv_(conv) {
    const int64_t image = pixel / (conv.OH * conv.OW), at = pixel % (conv.OH * conv.OW);
    ox_ = at % conv.OW;
    y_ = at / conv.OW * conv.stride - conv.top;
    x_ = ox_ * conv.stride - conv.left;
    base_ = image * conv.H * conv.W;
  }

  // The next `real` windows; the rest repeat the last one.
  template <int R>
  inline __attribute__((always_inline)) void take(int64_t real, Windows<R>& windows) {
    for (int r = 0; r < R; ++r) {
      windows.offset[r] = (base_ + y_ * conv_.W + x_) * conv_.C;
      windows.y[r] = y_;
      windows.x[r] = x_;
      if (r + 1 < real) next();
    }
    next();
  }

 private:
  void next() {
    x_ += conv_.stride;
    if (++ox_ < conv_.OW) return;
    ox_ = 0;
    x_ = -conv_.left;
    y_ += conv_.stride;
    if (y_ < conv_.OH * conv_.stride - conv_.top) return;
    y_ = -conv_.top;
    base_ += conv_.H * conv_.W;
  }

  const Conv& conv_;
  int64_t ox_, y_, x_, base_;
};

// acc[r][v] += sum_k a[r][k] * b[k * 64 + 16 v ...]
template <int R, int V>
inline __attribute__((always_inline)) void multiply_rows(const float* const (&a)[R], const float* b,
                                                         int64_t K, Vec (&acc)[R][V]) {
  for (int64_t k = 0; k < K; ++k) {
    Vec column[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) column[v] = Vec::load(b + k * kConvPanel + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec x = Vec::set(a[r][k]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = fma(x, column[v], acc[r][v]);
    }
  }
}

// Segments [first, last) of the windows into acc.
template <int R, int V>
inline __attribute__((always_inline)) void add_segments(const ConvPanel& t,
                                                        const Windows<R>& windows,
                                                        const ConvPart& part, Vec (&acc)[R][V]) {
  const Conv& conv = t.conv;
  const int64_t width = conv.inside ? 1 : conv.kernel_w;
  const int64_t length = conv.inside ? conv.kernel_w * conv.C : conv.C;
  const float* weights = t.packed + part.channel + part.first * length * kConvPanel;
  int64_t ky = 0, kx = part.first;
  for (; kx >= width; kx -= width) ++ky;
  for (int64_t s = part.first; s < part.last; ++s) {
    const int64_t step = (ky * conv.W + kx) * conv.C;
    const float* a[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      a[r] = t.x + windows.offset[r] + step;
      if (conv.inside) continue;
      const auto y = static_cast<uint64_t>(windows.y[r] + ky);
      const auto x = static_cast<uint64_t>(windows.x[r] + kx);
      if (y >= static_cast<uint64_t>(conv.H) || x >= static_cast<uint64_t>(conv.W)) a[r] = t.zeros;
    }
    multiply_rows<R, V>(a, weights, length, acc);
    weights += length * kConvPanel;
    if (++kx == width) {
      kx = 0;
      ++ky;
    }
  }
}

// The same for pixels, whose rows lie one after the other.
template <int R, int V>
inline __attribute__((always_inline)) void add_segments(const ConvPanel& t, const Pixels<R>& pixels,
                                                        const ConvPart& part, Vec (&acc)[R][V]) {
  const int64_t C = t.conv.C;
  const float* a[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    a[r] = t.x + (pixels.first + (r < pixels.real ? r : pixels.real - 1)) * C;
  }
  multiply_rows<R, V>(a, t.packed + part.channel, C, acc);
}

// acc of one pixel and vector, `left` channels of it real: bias, residual, activation, store.
template <Activation activation>
inline __attribute__((always_inline)) void finish(const ConvPanel& t, Vec value, int64_t pixel,
                                                  int64_t channel, int64_t left) {
  const int64_t at = pixel * t.conv.N + channel;
  value = value + load_first(t.bias + channel, left);
  if (t.residual) value = value + load_first(t.residual + at, left);
  store_first(activate(activation, value), t.out + at, left);
}

// The pixels [pixel, pixel + real) at `windows`, real <= R.
template <int R, int V, Activation activation, class W>
inline void conv_block(const ConvPanel& t, const W& windows, int64_t pixel, int64_t real,
                       const ConvPart& part) {
  const int64_t N = t.conv.N, left = t.columns - part.channel;
  float* out = t.out + pixel * N + part.channel;
  Vec acc[R][V];
  if (t.far) {
    for (int64_t r = 0; r < real; ++r) {
      for (int v = 0; v < V; ++v) {
        __builtin_prefetch(out + r * N + v * kLanes, 1);
        if (t.residual) __builtin_prefetch(t.residual + (out - t.out) + r * N + v * kLanes);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = Vec::set(0.0f);
  }
  if (part.first > 0) {  // the sum so far waits in the output
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float* row = out + (r < real ? r : 0) * N;
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = load_first(row + v * kLanes, left - v * kLanes);
    }
  }
  add_segments<R, V>(t, windows, part, acc);
  if (real == R && part.final) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const int64_t lanes = v + 1 < V ? kLanes : left - v * kLanes;
        finish<activation>(t, acc[r][v], pixel + r, part.channel + v * kLanes, lanes);
      }
    }
    return;
  }
  float sums[R * V * kLanes];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v].store(sums + (r * V + v) * kLanes);
  }
  for (int64_t r = 0; r < real; ++r) {
    for (int64_t v = 0; v < V; ++v) {
      const Vec value = Vec::load(sums + (r * V + v) * kLanes);
      if (part.final) {
        finish<activation>(t, value, pixel + r, part.channel + v * kLanes, left - v * kLanes);
      } else {
        store_first(value, out + r * N + v * kLanes, left - v * kLanes);
      }
    }
  }
}

template <int V, Activation activation>
void conv_rows(const ConvPanel& t, int64_t pixel, int64_t pixels, const ConvPart& part) {
  constexpr int R = kConvRows<V>;
  const int64_t end = pixel + pixels;
  // next(rows, real) takes the windows of the next `real` pixels
  const auto blocks = [&](auto next) {
    for (; end - pixel > R / 2; pixel += R) {
      const int64_t real = end - pixel < R ? end - pixel : R;
      conv_block<R, V, activation>(t, next(std::integral_constant<int, R>{}, real), pixel, real,
                                   part);
    }
    if (pixel < end) {
      const int64_t real = end - pixel;
      conv_block<R / 2, V, activation>(t, next(std::integral_constant<int, R / 2>{}, real), pixel,
                                       real, part);
    }
  };
  if (t.conv.kernel_h * t.conv.kernel_w * t.conv.stride == 1 && t.conv.inside) {
    blocks([&](auto rows, int64_t real) { return Pixels<rows()>{pixel, real}; });
  } else {
    WindowWalk walk(t.conv, pixel);
    blocks([&](auto rows, int64_t real) {
      Windows<rows()> windows;
      walk.take(real, windows);
      return windows;
    });
  }
}

template <Activation activation>
void conv_panel(const ConvPanel& t, int64_t pixel, int64_t pixels) {
  const Conv& conv = t.conv;
  const int64_t segments = conv.inside ? conv.kernel_h : conv.kernel_h * conv.kernel_w;
  const int64_t K = conv.kernel_h * conv.kernel_w * conv.C;
  const int64_t per_chunk = kConvChunk / (K / segments * kConvPanel);
  const int64_t step = per_chunk < 1 ? 1 : per_chunk;
  for (int64_t first = 0; first < segments; first += step) {
    const int64_t last = first + step < segments ? first + step : segments;
    ConvPart part{0, first, last, last == segments};
    for (; part.channel + kConvVecs * kLanes <= round_up(t.columns, kLanes);
         part.channel += kConvVecs * kLanes) {
      conv_rows<kConvVecs, activation>(t, pixel, pixels, part);
    }
#if defined(COLDPRESS_ISA_IS_avx512)
    switch ((t.columns - part.channel + kLanes - 1) / kLanes) {
      case 3:
        conv_rows<3, activation>(t, pixel, pixels, part);
        break;
      case 2:
        conv_rows<2, activation>(t, pixel, pixels, part);
        break;
      case 1:
        conv_rows<1, activation>(t, pixel, pixels, part);
        break;
    }
#endif
  }
}

// Output pixels [pixel, pixel + pixels) of one panel.
inline void convolve(Activation activation, const ConvPanel& t, int64_t pixel, int64_t pixels) {
  with_activation(activation, [&](auto known) { conv_panel<known()>(t, pixel, pixels); });
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
