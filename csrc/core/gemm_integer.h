// The register block of integer products: R rows times V vectors of columns, summed exactly (see
// core/integers.h) and handed on as floats. The unit of every address is a 32-bit lane, which holds
// one group of k: four bytes or two words.
//
// 6 x 64 keeps 24 sums, 4 vectors of weights and a broadcast in 32 registers, and 12 cycles of
// arithmetic hide 10 loads.
#pragma once

#include "core/integers.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// sums[r][v] (+)= groups [begin, end) of R rows times V vectors of columns: element (r, g) of `a`
// lies at r * lda + g * step. They go through memory on their way to the epilogue: as long as its
// loops are rolled, GCC would keep the sums there all along.
template <class F, bool more, int R, int V>
inline __attribute__((always_inline)) void add_groups(const int32_t* a, int64_t lda, int64_t step,
                                                      const int32_t* b, int64_t ldb, int64_t begin,
                                                      int64_t end, float* sums) {
  Sum acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = Sum::zero();
  }
  for (int64_t g = begin; g < end; ++g) {
    typename F::Weights column[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) column[v] = F::load(b + g * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto x = F::broadcast(a + r * lda + g * step);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = F::dot(acc[r][v], x, column[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      float* sum = sums + (r * V + v) * kLanes;
      const Vec part = acc[r][v].floats();
      (more ? Vec::load(sum) + part : part).store(sum);
    }
  }
}

template <class F, int R, int V>
inline __attribute__((always_inline)) void block_integer(const int32_t* a, int64_t lda,
                                                         int64_t step, const int32_t* b,
                                                         int64_t ldb, int64_t groups, float* sums) {
  if constexpr (F::kChunk == 0) {
    add_groups<F, false, R, V>(a, lda, step, b, ldb, 0, groups, sums);
  } else {
    const auto end = [=](int64_t begin) {
      return groups - begin < F::kChunk ? groups : begin + F::kChunk;
    };
    add_groups<F, false, R, V>(a, lda, step, b, ldb, 0, end(0), sums);
    for (int64_t begin = F::kChunk; begin < groups; begin += F::kChunk) {
      add_groups<F, true, R, V>(a, lda, step, b, ldb, begin, end(begin), sums);
    }
  }
}

// R rows times V vectors of columns, F::kVecs of them at a time. finish(vec) returns what takes
// (row, sum) of that vector: what the rows share is loaded once.
template <class F, int R, int V, class Finish>
inline __attribute__((always_inline)) void row_block_integer(const int32_t* a, int64_t lda,
                                                             int64_t step, const int32_t* b,
                                                             int64_t ldb, int64_t groups,
                                                             int64_t row, Finish&& finish) {
  constexpr int W = V < F::kVecs ? V : F::kVecs;
  float sums[R * W * kLanes];
  const auto some = [&](auto width, int64_t vec) {
    constexpr int kWidth = decltype(width)::value;
    block_integer<F, R, kWidth>(a + row * lda, lda, step, b + vec * kLanes, ldb, groups, sums);
    for (int64_t v = 0; v < kWidth; ++v) {
      const auto column = finish(vec + v);
      for (int64_t r = 0; r < R; ++r) {
        column(row + r, Vec::load(sums + (r * kWidth + v) * kLanes));
      }
    }
  };
  for (int64_t vec = 0; vec + W <= V; vec += W) some(std::integral_constant<int, W>{}, vec);
  if constexpr (V % W != 0) some(std::integral_constant<int, V % W>{}, V - V % W);
}

// a (rows, groups) times b (groups, 16 * V).
template <class F, int V, class Finish>
inline __attribute__((always_inline)) void matmul_integer(const int32_t* a, int64_t lda,
                                                          int64_t step, const int32_t* b,
                                                          int64_t ldb, int64_t rows, int64_t groups,
                                                          Finish&& finish) {
  int64_t row = 0;
  for (; row + F::kRows <= rows; row += F::kRows) {
    row_block_integer<F, F::kRows, V>(a, lda, step, b, ldb, groups, row, finish);
  }
#define CASE(R)                                                              \
  case R:                                                                    \
    if constexpr (R < F::kRows) {                                            \
      row_block_integer<F, R, V>(a, lda, step, b, ldb, groups, row, finish); \
    }                                                                        \
    break;
  switch (rows - row) {
    CASE(1)
    CASE(2)
    CASE(3)
    CASE(4)
    CASE(5)
  }
#undef CASE
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
