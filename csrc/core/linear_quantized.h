// What linear_quantized, mlp_quantized and attention_quantized share: rows of floats to integers,
// and their product with packed weights, dequantised in registers.
//
// A row is x = scale * q + offset with q in [-F::kZero, F::kSteps - F::kZero]; a column is
// w = column_scale * p with p symmetric. So x . w = scale * column_scale * (q . p) + offset *
// column_sum, where column_sum = column_scale * sum(p) is known beforehand: the asymmetry of a row
// costs one multiply-add.
#pragma once

#include <type_traits>

#include "core/gemm_integer.h"
#include "core/math.h"
#include "core/quantized.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Rows of integers with what turns them back into floats.
struct QuantizedRows {
  int32_t* lanes;  // (rows, stride)
  float* scales;
  float* offsets;
  int64_t stride;
};

// Calls run with the format of the weights.
template <class Run>
inline void in_format(const QuantizedWeights& w, Run&& run) {
  if (w.words) {
    run(Words{});
  } else {
    run(Bytes{});
  }
}

// Cuts `scratch` into rows of K values; takes quantized_scratch(rows, K) floats of it.
template <class F>
inline QuantizedRows place_rows(float* scratch, int64_t rows, int64_t K) {
  return {reinterpret_cast<int32_t*>(scratch + 2 * rows), scratch, scratch + rows,
          round_up(K, kLanes) / F::kGroup};
}

// NaN or infinity anywhere in the row make its scale NaN, and so every output of the row.
template <class F>
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
  const float least = reduce_min(low[0]) + 0.0f, range = reduce_max(high[0]) - least;
  const float inverse = range > 0.0f ? F::kSteps / range : 0.0f;
  const float scale = range / F::kSteps + reduce_add(poison[0]);
  to.scales[row] = scale;
  to.offsets[row] = least + F::kZero * scale;
  int32_t* lanes = to.lanes + row * to.stride;
  const auto put = [&](Vec value, int64_t at) {
    const Vec steps = (value - Vec::set(least)) * Vec::set(inverse);
    F::store(F::kZero == 0.0f ? steps : steps - Vec::set(F::kZero), lanes + at / F::kGroup);
  };
  for (k = 0; k + kLanes <= K; k += kLanes) put(Vec::load(x + k), k);
  if (k < K) put(load_first(x + k, K - k, least), k);
}

template <class F>
inline void quantize_rows(const float* x, int64_t rows, int64_t K, const QuantizedRows& to) {
  for (int64_t row = 0; row < rows; ++row) quantize_row<F>(x + row * K, K, to, row);
}

// activation(x) as exact as what follows can tell: its bytes come from it, or its inputs were
// bytes.
template <class F>
inline Vec activate_product(Activation activation, Vec x) {
  return std::is_same_v<F, Bytes> && activation == Activation::gelu ? coarse_gelu(x)
                                                                    : activate(activation, x);
}

// Panels [first, last) of activation(x W^T + bias) for quantised rows x; `out` is where the first
// column of panel `first` goes.
template <class F, Activation activation>
inline void linear_rows(const QuantizedRows& x, int64_t rows, const QuantizedWeights& w,
                        int64_t first, int64_t last, float* out, int64_t out_stride) {
  constexpr int64_t kPanel = kPanelQuantized;
  const int64_t groups = (w.K + F::kGroup - 1) / F::kGroup;
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t column = panel * kPanel;
    float* target = out + (panel - first) * kPanel;
    const auto finish = [&](int64_t vec) {
      const int64_t at = column + vec * kLanes, left = w.N - at;
      const Vec scale = Vec::load(w.scales + at), constant = Vec::load(w.sums + at);
      const Vec bias = load_first(w.bias + at, left);
      return [=, &x](int64_t row, Vec sum) {
        const Vec shift = fma(Vec::set(x.offsets[row]), constant, bias);
        const Vec value = fma(sum, Vec::set(x.scales[row]) * scale, shift);
        store_first(activate_product<F>(activation, value),
                    target + row * out_stride + vec * kLanes, left);
      };
    };
    matmul_integer<F, kPanel / kLanes>(x.lanes, x.stride, 1, w.lanes + panel * groups * kPanel,
                                       kPanel, rows, groups, finish);
  }
}

template <class F>
inline void linear_rows(Activation activation, const QuantizedRows& x, int64_t rows,
                        const QuantizedWeights& w, int64_t first, int64_t last, float* out,
                        int64_t out_stride) {
  with_activation(activation, [&](auto known) {
    linear_rows<F, known()>(x, rows, w, first, last, out, out_stride);
  });
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
