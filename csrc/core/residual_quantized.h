// What the two halves of a transformer block, attention_quantized and mlp_quantized, have around
// their products: y = norm(x + f(x)), or y = x + f(norm(x)) where the normalisation comes first.
#pragma once

#include "core/linear_quantized.h"
#include "core/norm.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Rows of x, normalised if that comes first, to integers. `buffer` holds one row.
template <class F>
inline void quantize_inputs(const float* x, int64_t rows, int64_t D, const Norm& norm,
                            float* buffer, const QuantizedRows& to) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* values = x + row * D;
    if (norm.first) {
      normalise_row(values, norm, D, buffer);
      values = buffer;
    }
    quantize_row<F>(values, D, to, row);
  }
}

// y holds f; it becomes the output.
inline void finish_rows(const float* x, int64_t rows, int64_t D, const Norm& norm, float* y) {
  for (int64_t row = 0; row < rows; ++row) {
    add_row(y + row * D, x + row * D, D, y + row * D);
    if (!norm.first) normalise_row(y + row * D, norm, D, y + row * D);
  }
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
