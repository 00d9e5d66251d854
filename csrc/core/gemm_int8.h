// What linear_int8 and mlp_int8 share: rows of floats to bytes, and their product with packed int8
// weights, dequantised in registers.
//
// A row is x = scale * q + offset with q in [0, 255]; a column is w = column_scale * p with p in
// [-127, 127]. So x . w = scale * column_scale * (q . p) + offset * column_sum, where column_sum =
// column_scale * sum(p) is known beforehand: the asymmetry of a row costs one multiply-add.
//
// 6 x 64 keeps 24 sums, 4 vectors of weights and a broadcast in 32 registers, and 12 cycles of
// arithmetic hide 10 loads.
#pragma once

#include "core/bytes.h"
#include "core/math.h"
#include "core/packed_int8.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

#if defined(COLDPRESS_ISA_IS_avx512_vnni)
constexpr int kSumRows = 6, kSumVecs = 4;
#elif defined(COLDPRESS_ISA_IS_avx512)
constexpr int kSumRows = 6, kSumVecs = 2;
#else
constexpr int kSumRows = 3, kSumVecs = 1;
#endif

// Rows of bytes with what turns them back into floats.
struct QuantizedRows {
  uint8_t* bytes;  // (rows, stride), stride = round_up(K, 16)
  float* scales;
  float* offsets;
  int64_t stride;
};

// NaN or infinity anywhere in the row make its scale NaN, and so every output of the row.
inline void quantize_row(const float* x, int64_t K, const QuantizedRows& to, int64_t row) {
  constexpr int kChains = 4;  // independent, or their latency would bind
  Vec low[kChains], high[kChains], poison[kChains];
  for (int i = 0; i < kChains; ++i) {
    low[i] = high[i] = Vec::set(x[0]);
    poison[i] = Vec::set(0.0f);
  }
  const auto take = [&](int i, Vec value) {
    low[i] = min(low[i], value);
    high[i] = max(high[i], value);
    poison[i] = fma(value, Vec::set(0.0f), poison[i]);
  };
  int64_t k = 0;
  for (; k + kChains * kLanes <= K; k += kChains * kLanes) {
    for (int i = 0; i < kChains; ++i) take(i, Vec::load(x + k + i * kLanes));
  }
  for (; k < K; k += kLanes) take(0, load_first(x + k, K - k, x[0]));
  for (int i = 1; i < kChains; ++i) {
    low[0] = min(low[0], low[i]);
    high[0] = max(high[0], high[i]);
    poison[0] = poison[0] + poison[i];
  }
  // + 0: the smaller of 0 and -0 is not the same on every level.
  const float offset = reduce_min(low[0]) + 0.0f, range = reduce_max(high[0]) - offset;
  const float inverse = range > 0.0f ? 255.0f / range : 0.0f;
  to.scales[row] = range / 255.0f + reduce_add(poison[0]);
  to.offsets[row] = offset;
  uint8_t* bytes = to.bytes + row * to.stride;
  for (k = 0; k + kLanes <= K; k += kLanes) {
    store_bytes((Vec::load(x + k) - Vec::set(offset)) * Vec::set(inverse), bytes + k);
  }
  if (k < K) {
    const Vec value = load_first(x + k, K - k, offset) - Vec::set(offset);
    store_bytes(value * Vec::set(inverse), bytes + k);
  }
}

// sums[r][v] of R rows of bytes and V vectors of columns, as floats. They go through memory on
// their way to the epilogue: as long as its loops are rolled, GCC would keep the sums there all
// along.
template <int R, int V>
inline __attribute__((always_inline)) void block_int8(const uint8_t* a, int64_t lda,
                                                      const int8_t* b, int64_t groups,
                                                      float* sums) {
  Sum acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = Sum::zero();
  }
  for (int64_t g = 0; g < groups; ++g) {
    Weights column[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) column[v] = load_weights(b + g * 4 * kPanelInt8 + v * 4 * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Inputs x = broadcast_inputs(a + r * lda + 4 * g);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = dot(acc[r][v], x, column[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v].floats().store(sums + (r * V + v) * kLanes);
  }
}

template <int R, class Finish>
inline void row_blocks_int8(const uint8_t* a, int64_t lda, const int8_t* b, int64_t groups,
                            int64_t row, Finish&& finish) {
  float sums[R * kSumVecs * kLanes];
  for (int64_t vec = 0; vec < kPanelInt8 / kLanes; vec += kSumVecs) {
    block_int8<R, kSumVecs>(a + row * lda, lda, b + vec * 4 * kLanes, groups, sums);
    for (int64_t v = 0; v < kSumVecs; ++v) {
      const auto column = finish(vec + v);
      for (int64_t r = 0; r < R; ++r) {
        column(row + r, Vec::load(sums + (r * kSumVecs + v) * kLanes));
      }
    }
  }
}

// rows of bytes times one panel of 64 columns.
template <class Finish>
inline void panel_int8(const uint8_t* a, int64_t lda, int64_t rows, const int8_t* b, int64_t groups,
                       Finish&& finish) {
  int64_t row = 0;
  for (; row + kSumRows <= rows; row += kSumRows) {
    row_blocks_int8<kSumRows>(a, lda, b, groups, row, finish);
  }
  switch (rows - row) {
    case 5:
      return row_blocks_int8 < kSumRows<5 ? 1 : 5>(a, lda, b, groups, row, finish);
    case 4:
      return row_blocks_int8 < kSumRows<4 ? 1 : 4>(a, lda, b, groups, row, finish);
    case 3:
      return row_blocks_int8<3>(a, lda, b, groups, row, finish);
    case 2:
      return row_blocks_int8<2>(a, lda, b, groups, row, finish);
    case 1:
      return row_blocks_int8<1>(a, lda, b, groups, row, finish);
  }
}

// Panels [first, last) of activation(x W^T + bias) for quantised rows x; `out` is where the first
// column of panel `first` goes.
template <Activation activation>
inline void linear_rows_int8(const QuantizedRows& x, int64_t rows, const PackedInt8& w,
                             int64_t first, int64_t last, float* out, int64_t out_stride) {
  const int64_t groups = (w.K + 3) / 4;
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t column = panel * kPanelInt8;
    float* target = out + (panel - first) * kPanelInt8;
    // Called with a vector of columns, then with each of its rows: what the columns share is loaded
    // once.
    const auto finish = [&](int64_t vec) {
      const int64_t at = column + vec * kLanes, left = w.N - at;
      const Vec scale = Vec::load(w.scales + at), constant = Vec::load(w.sums + at);
      const Vec bias = load_first(w.bias + at, left);
      return [=, &x](int64_t row, Vec sum) {
        const Vec shift = fma(Vec::set(x.offsets[row]), constant, bias);
        const Vec value = fma(sum, Vec::set(x.scales[row]) * scale, shift);
        store_first(activate(activation, value), target + row * out_stride + vec * kLanes, left);
      };
    };
    panel_int8(x.bytes, x.stride, rows, w.weights + panel * groups * 4 * kPanelInt8, groups,
               finish);
  }
}

inline void linear_rows_int8(Activation activation, const QuantizedRows& x, int64_t rows,
                             const PackedInt8& w, int64_t first, int64_t last, float* out,
                             int64_t out_stride) {
#define CASE(name)       \
  case Activation::name: \
    return linear_rows_int8<Activation::name>(x, rows, w, first, last, out, out_stride);
  switch (activation) {
    CASE(none)
    CASE(gelu)
    CASE(gelu_tanh)
    CASE(relu)
    CASE(quick_gelu)
    CASE(silu)
  }
#undef CASE
}

// Cuts `scratch` into rows of K bytes; takes int8_scratch(rows, K) floats of it.
inline QuantizedRows place_rows(float* scratch, int64_t rows, int64_t K) {
  const int64_t stride = round_up(K, kLanes);
  return {reinterpret_cast<uint8_t*>(scratch + 2 * rows), scratch, scratch + rows, stride};
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
