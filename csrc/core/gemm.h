// The register block that linear and attention share: R rows times V vectors of columns.
//
// Every output element is one chain of fused multiply-adds over k = 0 .. K-1, whatever block,
// batch, thread or instruction set computes it. That order is what makes the vectors
// batch-invariant, so no version of this file may split K.
//
// 6 x 64 on AVX-512 keeps 24 accumulators, 4 columns vectors and a broadcast in 32 registers; 6 x
// 16 on AVX2 keeps 12 + 2 + 1 in 16.
#pragma once

#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

constexpr int kTileRows = 6;
#if defined(COLDPRESS_ISA_IS_avx512)
constexpr int kTileVecs = 4;
#else
constexpr int kTileVecs = 1;
#endif

// acc[r][v] = sum_k a[r * lda + k * step] * b[k * ldb + 16 v ...]
template <int R, int V>
inline __attribute__((always_inline)) void multiply(const float* a, int64_t lda, int64_t step,
                                                    const float* b, int64_t ldb, int64_t K,
                                                    Vec (&acc)[R][V]) {
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) acc[r][v] = Vec::set(0.0f);
  }
  for (int64_t k = 0; k < K; ++k) {
    Vec column[V];
    for (int v = 0; v < V; ++v) column[v] = Vec::load(b + k * ldb + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const Vec x = Vec::set(a[r * lda + k * step]);
      for (int v = 0; v < V; ++v) acc[r][v] = fma(x, column[v], acc[r][v]);
    }
  }
}

// Calls finish(row, vec, value) for each of R x (16 * V) outputs.
template <int R, int V, class Finish>
inline void block(const float* a, int64_t lda, int64_t step, const float* b, int64_t ldb, int64_t K,
                  int64_t row, Finish&& finish) {
  Vec acc[R][V];
  multiply<R, V>(a + row * lda, lda, step, b, ldb, K, acc);
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) finish(row + r, v, acc[r][v]);
  }
}

// a (rows, K) times b (K, 16 * V): element (r, k) of a lies at r * lda + k * step, b is row-major.
template <int V, class Finish>
inline void matmul(const float* a, int64_t lda, int64_t step, const float* b, int64_t ldb,
                   int64_t rows, int64_t K, Finish&& finish) {
  int64_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) {
    block<kTileRows, V>(a, lda, step, b, ldb, K, row, finish);
  }
  switch (rows - row) {
    case 5:
      return block<5, V>(a, lda, step, b, ldb, K, row, finish);
    case 4:
      return block<4, V>(a, lda, step, b, ldb, K, row, finish);
    case 3:
      return block<3, V>(a, lda, step, b, ldb, K, row, finish);
    case 2:
      return block<2, V>(a, lda, step, b, ldb, K, row, finish);
    case 1:
      return block<1, V>(a, lda, step, b, ldb, K, row, finish);
  }
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
