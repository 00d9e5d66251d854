// softmax(Q K^T * scale) V of one head of one sequence; see core/attention_words.h for
// its twin on words.
//
// Queries are taken 64 at a time, one query a lane: keys and values are read where they are, the
// softmax needs no step across lanes, and only queries and outputs are transposed, in registers.
// Scores (T = 256: 64 KB) stay in L2. Both products are the register block of core/gemm.h. Against
// keys in the lanes (transposed keys, copied values, softmax along rows): 3.4 -> 1.2 ms for 2,048
// tokens in texts of 53, 12 heads of 32, one core of a Zen 5: 53 % of its 286 GFLOP/s, 75 % at 256
// tokens. The rest is the exponential (7 cycles for 16) and lanes without a query.
#pragma once

#include "core/attention_lanes.h"
#include "core/gemm.h"
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Scores (T, 16 * V) to their powers of two, the greatest of each lane being 1; returns 1 / sum.
template <int V>
void softmax(float* scores, int64_t T, Vec (&inverse)[V]) {
  Vec top[V], sum[V];
  greatest<V>(scores, T, top);
  for (int v = 0; v < V; ++v) sum[v] = Vec::set(0.0f);
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

// n <= 16 * V queries against T keys; adjust(scores) is what else bears on their scores.
template <int V, class Adjust>
void attend(const float* q, int64_t q_stride, int64_t n, const float* k, const float* v,
            int64_t stride, int64_t T, int64_t width, float scale, float* scratch, float* out,
            int64_t out_stride, Adjust adjust) {
  constexpr int64_t kRow = V * kLanes;
  float* transposed = scratch;  // (width, 16 * V): queries, later outputs
  float* scores = transposed + round_up(width, kLanes) * kRow;  // (T, 16 * V)
  const Vec factor = Vec::set(scale * 1.44269504089f);          // log2(e)
  rows_to_lanes<V>(q, q_stride, n, width, transposed, [=](Vec x, int64_t) { return x * factor; });
  matmul<V>(k, stride, 1, transposed, kRow, T, width,
            [=](int64_t t, int64_t vec, Vec sum) { sum.store(scores + t * kRow + vec * kLanes); });
  adjust(scores);
  Vec inverse[V];
  softmax<V>(scores, T, inverse);
  matmul<V>(v, 1, stride, scores, kRow, width, T, [&](int64_t d, int64_t vec, Vec sum) {
    (sum * inverse[vec]).store(transposed + d * kRow + vec * kLanes);
  });
  lanes_to_rows<V>(transposed, n, width, out, out_stride);
}

// `queries` rows q and out, T rows k and v, all of `width` floats, (q_, out_) stride apart.
// `scratch` holds attention_scratch(T, width) floats.
inline void attend_head(const float* q, int64_t q_stride, int64_t queries, const float* k,
                        const float* v, int64_t stride, int64_t T, int64_t width, float scale,
                        float* scratch, float* out, int64_t out_stride,
                        const Distances& distances = kEverywhere) {
  for_each_query_block(queries, [&](auto vecs, int64_t first, int64_t n) {
    constexpr int V = decltype(vecs)::value;
    const int64_t begin = first_key(distances, first), end = end_key(distances, first, n, T);
    attend<V>(
        q + first * q_stride, q_stride, n, k + begin * stride, v + begin * stride, stride,
        end - begin, width, scale, scratch, out + first * out_stride, out_stride,
        [&](float* scores) { adjust_scores<V>(distances, first, begin, end - begin, scores); });
  });
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
