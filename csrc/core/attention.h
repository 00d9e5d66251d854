// softmax(Q K^T * scale) V of one head of one sequence; varlen_attention and attention_int8 share
// it.
//
// Queries are taken 64 at a time, one query a lane: keys and values are read where they are, the
// softmax needs no step across lanes, and only queries and outputs are transposed, in registers.
// Scores (T = 256: 64 KB) stay in L2. Both products are the register block of core/gemm.h. Against
// keys in the lanes (transposed keys, copied values, softmax along rows): 3.4 -> 1.2 ms for 2,048
// tokens in texts of 53, 12 heads of 32, one core of a Zen 5: 53 % of its 286 GFLOP/s, 75 % at 256
// tokens. The rest is the exponential (7 cycles for 16) and lanes without a query.
#pragma once

#include "core/gemm.h"
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// out (round_up(width, 16), 16 * V) = factor * transposed rows of x (n, width); lanes behind n are
// 0.
template <int V>
void transpose_queries(const float* x, int64_t stride, int64_t n, int64_t width, float factor,
                       float* out) {
  for (int64_t d = 0; d < width; d += kLanes) {
    for (int64_t v = 0; v < V; ++v) {
      Vec rows[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        const int64_t row = v * kLanes + i;
        rows[i] = row < n ? load_first(x + row * stride + d, width - d) * Vec::set(factor)
                          : Vec::set(0.0f);
      }
      transpose(rows);
      for (int64_t i = 0; i < kLanes; ++i) rows[i].store(out + ((d + i) * V + v) * kLanes);
    }
  }
}

// The way back: x (round_up(width, 16), 16 * V) to n rows of `width` floats.
template <int V>
void transpose_outputs(const float* x, int64_t n, int64_t width, float* out, int64_t stride) {
  for (int64_t d = 0; d < width; d += kLanes) {
    for (int64_t v = 0; v < V; ++v) {
      Vec rows[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) rows[i] = Vec::load(x + ((d + i) * V + v) * kLanes);
      transpose(rows);
      const int64_t last = n - v * kLanes < kLanes ? n - v * kLanes : kLanes;
      for (int64_t i = 0; i < last; ++i) {
        store_first(rows[i], out + (v * kLanes + i) * stride + d, width - d);
      }
    }
  }
}

// Scores (T, 16 * V) to their powers of two, the greatest of each lane being 1; returns 1 / sum.
template <int V>
void softmax(float* scores, int64_t T, Vec (&inverse)[V]) {
  Vec top[V], sum[V];
  for (int v = 0; v < V; ++v) {
    top[v] = Vec::load(scores + v * kLanes);
    sum[v] = Vec::set(0.0f);
  }
  for (int64_t t = 1; t < T; ++t) {
    for (int v = 0; v < V; ++v) top[v] = max(top[v], Vec::load(scores + (t * V + v) * kLanes));
  }
  for (int64_t t = 0; t < T; ++t) {
    for (int v = 0; v < V; ++v) {
      float* at = scores + (t * V + v) * kLanes;
      const Vec weight = exp2(Vec::load(at) - top[v]);
      weight.store(at);
      sum[v] = sum[v] + weight;
    }
  }
  for (int v = 0; v < V; ++v) inverse[v] = Vec::set(1.0f) / sum[v];
}

// n <= 16 * V queries against all keys.
template <int V>
void attend(const float* q, const float* k, const float* v, int64_t stride, int64_t n, int64_t T,
            int64_t width, float scale, float* scratch, float* out, int64_t out_stride) {
  constexpr int64_t kRow = V * kLanes;
  float* transposed = scratch;  // (width, 16 * V): queries, later outputs
  float* scores = transposed + round_up(width, kLanes) * kRow;                    // (T, 16 * V)
  transpose_queries<V>(q, stride, n, width, scale * 1.44269504089f, transposed);  // log2(e)
  matmul<V>(k, stride, 1, transposed, kRow, T, width,
            [=](int64_t t, int64_t vec, Vec sum) { sum.store(scores + t * kRow + vec * kLanes); });
  Vec inverse[V];
  softmax<V>(scores, T, inverse);
  matmul<V>(v, 1, stride, scores, kRow, width, T, [&](int64_t d, int64_t vec, Vec sum) {
    (sum * inverse[vec]).store(transposed + d * kRow + vec * kLanes);
  });
  transpose_outputs<V>(transposed, n, width, out, out_stride);
}

// q, k, v and out are rows of `width` floats, `stride` (out_stride) apart. `scratch` holds
// attention_scratch(T, width) floats.
inline void attend_head(const float* q, const float* k, const float* v, int64_t stride, int64_t T,
                        int64_t width, float scale, float* scratch, float* out,
                        int64_t out_stride) {
  constexpr int64_t kStep = kTileVecs * kLanes;
  for (int64_t row = 0; row < T; row += kStep) {
    const int64_t n = T - row < kStep ? T - row : kStep;
#define CASE(V)                                                                                    \
  case V:                                                                                          \
    attend<V>(q + row * stride, k, v, stride, n, T, width, scale, scratch, out + row * out_stride, \
              out_stride);                                                                         \
    break;
    switch (round_up(n, kLanes) / kLanes) {
      CASE(1)
      CASE(2)
      CASE(3)
      CASE(4)
    }
#undef CASE
  }
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
