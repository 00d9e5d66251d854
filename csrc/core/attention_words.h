// softmax(Q K^T * scale) V of one head of one sequence, both products on words (core/integers.h):
// what layers with quantised weights use.
//
// Keys and values are quantised per column of the sequence, to 4095 and 2047 steps either side of
// zero; the scales of the keys go into the queries, which are quantised per token, in the lanes: no
// step across lanes. Probabilities have 8192 steps, so that every sum of 128 products fits into 32
// bits. Otherwise as core/attention.h: 64 queries at a time, one a lane. vpdpwssd multiplies twice
// as many words as FMA floats, and what streams through the caches is half as long.
//
// One core of a Zen 5, a head of T x width, fp32 against words: 53 x 32 2.5 -> 1.9 us, 104 x 32
// 8.0 -> 5.7, 197 x 64 51 -> 33, 512 x 64 305 -> 191 (61 % of 573 GOP/s; 53 % at 197). Of 33 us the
// products take 23, the softmax 5 and quantising 5.
#pragma once

#include "core/attention_lanes.h"
#include "core/attention_scratch.h"
#include "core/gemm_integer.h"
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

constexpr float kKeySteps = 4095.0f, kQuerySteps = 4095.0f, kValueSteps = 2047.0f;

// Where the parts of a head lie in scratch memory.
struct WordsHead {
  float* scores;        // (T + 1, 64), later words of probabilities
  float* transposed;    // (width, 64): queries, then their words
  int32_t* keys;        // (T, width / 2): words of a token
  int32_t* values;      // (ceil(T / 2), width): words of two tokens
  float* key_scales;    // width
  float* value_scales;  // width
};

// All widths are `lanes`, width rounded up to 16.
inline WordsHead place_head(float* scratch, int64_t T, int64_t lanes) {
  WordsHead head;
  const auto take = [&](int64_t count) {
    float* at = scratch;
    scratch += count;
    return at;
  };
  head.scores = take((T + 1) * kQueries);
  head.transposed = take(lanes * kQueries);
  head.keys = reinterpret_cast<int32_t*>(take(T * lanes / 2));
  head.values = reinterpret_cast<int32_t*>(take((T + 1) / 2 * lanes));
  head.key_scales = take(lanes);
  head.value_scales = take(lanes);
  return head;
}

// Greatest magnitude among values: how many `steps` one of them is, and how much a step. NaN or
// infinity among the values make it NaN.
class Range {
 public:
  void take(Vec value) {
    top_ = max(top_, abs(value));
    poison_ = fma(value, Vec::set(0.0f), poison_);
  }
  Vec inverse(Vec steps) const {
    const Vec zero = Vec::set(0.0f);
    return select_less(zero, top_, steps / top_, zero);
  }
  Vec step(Vec steps) const { return top_ / steps + poison_; }

 private:
  Vec top_ = Vec::set(0.0f), poison_ = Vec::set(0.0f);
};

// Sixteen columns of T tokens at a time: put(t, at, value, next) gets two neighbouring tokens in
// steps; `scales` (width) what a step is.
template <class Put>
inline void quantize_columns(const float* x, int64_t stride, int64_t T, int64_t width, float steps,
                             float* scales, Put put) {
  for (int64_t d = 0; d < width; d += kLanes) {
    const auto value = [&](int64_t t) { return load_first(x + t * stride + d, width - d); };
    Range range;
    for (int64_t t = 0; t < T; ++t) range.take(value(t));
    range.step(Vec::set(steps)).store(scales + d);
    const Vec inverse = range.inverse(Vec::set(steps));
    int64_t t = 0;
    for (; t + 2 <= T; t += 2) put(t, d, value(t) * inverse, value(t + 1) * inverse);
    if (t < T) put(t, d, value(t) * inverse, Vec::set(0.0f));
  }
}

inline void quantize_keys_and_values(const float* k, const float* v, int64_t stride, int64_t T,
                                     int64_t width, const WordsHead& head) {
  const int64_t lanes = round_up(width, kLanes);
  quantize_columns(k, stride, T, width, kKeySteps, head.key_scales,
                   [&](int64_t t, int64_t d, Vec even, Vec odd) {
                     int32_t* at = head.keys + (t * lanes + d) / 2;
                     Words::store(even, at);
                     if (t + 1 < T) Words::store(odd, at + lanes / 2);
                   });
  quantize_columns(v, stride, T, width, kValueSteps, head.value_scales,
                   [&](int64_t t, int64_t d, Vec even, Vec odd) {
                     Words::store_pairs(rounded(even), rounded(odd),
                                        head.values + t / 2 * lanes + d);
                   });
}

// n rows of queries to words (width / 2, 16 * V) in `head.transposed`; returns what a step is.
template <int V>
void quantize_queries(const float* q, int64_t stride, int64_t n, int64_t width, float scale,
                      const WordsHead& head, Vec (&step)[V]) {
  constexpr int64_t kRow = V * kLanes;
  const Vec factor = Vec::set(scale * 1.44269504089f);  // log2(e)
  rows_to_lanes<V>(q, stride, n, width, head.transposed,
                   [&](Vec x, int64_t d) { return x * (Vec::load(head.key_scales + d) * factor); });
  auto* words = reinterpret_cast<int32_t*>(head.transposed);
  for (int v = 0; v < V; ++v) {
    const auto value = [&](int64_t d) {
      return Vec::load(head.transposed + d * kRow + v * kLanes);
    };
    Range range;
    for (int64_t d = 0; d < width; ++d) range.take(value(d));
    step[v] = range.step(Vec::set(kQuerySteps));
    const Vec inverse = range.inverse(Vec::set(kQuerySteps));
    for (int64_t d = 0; d < width; d += 2) {
      const Vec odd = d + 1 < width ? value(d + 1) * inverse : Vec::set(0.0f);
      Words::store_pairs(rounded(value(d) * inverse), rounded(odd),
                         words + d / 2 * kRow + v * kLanes);
    }
  }
}

// 8192 * 2^x for x <= 0, rounded to an integer (see `rounded`); 2^r = 1 + r q(r), to 4e-6.
inline Vec probability(Vec x) {
  const Vec shifted = max(Vec::set(-20.0f), x) + Vec::set(kRounder + 13.0f);
  const Vec r = max(Vec::set(-20.0f), x) - (shifted - Vec::set(kRounder + 13.0f));
  const Vec low = fma(r, Vec::set(0.24024099112f), Vec::set(0.69312417507f));
  const Vec high = fma(r, Vec::set(0.0095828296617f), Vec::set(0.055906400085f));
  const Vec q = fma(r * r, high, low);
  return fma(fma(r, q, Vec::set(1.0f)), power_of_two(shifted), Vec::set(kRounder));
}

// Scores (T, 16 * V) to words of probabilities, pairs of tokens side by side, the greatest of each
// lane being 8192; returns 1 / sum.
template <int V>
void softmax_words(float* scores, int64_t T, Vec (&inverse)[V]) {
  Vec top[V], sum[V];
  greatest<V>(scores, T, top);
  for (int v = 0; v < V; ++v) sum[v] = Vec::set(0.0f);
  auto* words = reinterpret_cast<int32_t*>(scores);
  const Vec none = rounded(Vec::set(0.0f));
  for (int64_t t = 0; t < T; t += 2) {
    for (int v = 0; v < V; ++v) {
      const auto weight = [&](int64_t at) {
        return probability(Vec::load(scores + (at * V + v) * kLanes) - top[v]);
      };
      const Vec even = weight(t), odd = t + 1 < T ? weight(t + 1) : none;
      sum[v] = sum[v] + ((even - none) + (odd - none));
      Words::store_pairs(even, odd, words + (t / 2 * V + v) * kLanes);
    }
  }
  for (int v = 0; v < V; ++v) inverse[v] = Vec::set(1.0f) / sum[v];
}

// out (n, width) = words of probabilities times words of values, the columns in the lanes: no query
// that is not there, and nothing to transpose.
template <int V>
void mix_values(const WordsHead& head, int64_t n, int64_t T, int64_t width, const Vec (&inverse)[V],
                float* out, int64_t out_stride) {
  constexpr int64_t kRow = V * kLanes;
  const auto* probabilities = reinterpret_cast<const int32_t*>(head.scores);
  const int64_t lanes = round_up(width, kLanes);
  float factors[kRow];
  for (int v = 0; v < V; ++v) inverse[v].store(factors + v * kLanes);
  const auto columns = [&](auto vecs, int64_t d) {
    const auto finish = [&](int64_t vec) {
      const int64_t at = d + vec * kLanes;
      const Vec scale = Vec::load(head.value_scales + at);
      return [=, &factors](int64_t row, Vec sum) {
        store_first(sum * (scale * Vec::set(factors[row])), out + row * out_stride + at,
                    width - at);
      };
    };
    matmul_integer<Words, vecs()>(probabilities, 1, kRow, head.values + d, lanes, n, (T + 1) / 2,
                                  finish);
  };
  int64_t d = 0;
  for (; d + 4 * kLanes <= lanes; d += 4 * kLanes) columns(std::integral_constant<int, 4>{}, d);
  if (d + 2 * kLanes <= lanes) {
    columns(std::integral_constant<int, 2>{}, d);
    d += 2 * kLanes;
  }
  if (d < lanes) columns(std::integral_constant<int, 1>{}, d);
}

// n <= 16 * V queries against T keys; adjust(scores) is what else bears on their scores.
template <int V, class Adjust>
void attend_words(const float* q, int64_t q_stride, int64_t n, int64_t T, int64_t width,
                  float scale, const WordsHead& head, float* out, int64_t out_stride,
                  Adjust adjust) {
  constexpr int64_t kRow = V * kLanes;
  const int64_t lanes = round_up(width, kLanes);
  Vec step[V], inverse[V];
  quantize_queries<V>(q, q_stride, n, width, scale, head, step);
  matmul_integer<Words, V>(head.keys, lanes / 2, 1,
                           reinterpret_cast<const int32_t*>(head.transposed), kRow, T,
                           (width + 1) / 2, [&](int64_t vec) {
                             return [&, vec](int64_t t, Vec sum) {
                               (sum * step[vec]).store(head.scores + t * kRow + vec * kLanes);
                             };
                           });
  adjust(head.scores);
  softmax_words<V>(head.scores, T, inverse);
  mix_values<V>(head, n, T, width, inverse, out, out_stride);
}

// `queries` rows q and out, T rows k and v, all of `width` floats, (q_, out_) stride apart.
// `scratch` holds attention_scratch_words(T, width) floats.
inline void attend_head_words(const float* q, int64_t q_stride, int64_t queries, const float* k,
                              const float* v, int64_t stride, int64_t T, int64_t width, float scale,
                              float* scratch, float* out, int64_t out_stride,
                              const Distances& distances = kEverywhere) {
  const WordsHead head = place_head(scratch, T, round_up(width, kLanes));
  quantize_keys_and_values(k, v, stride, T, width, head);
  const int64_t lanes = round_up(width, kLanes);
  for_each_query_block(queries, [&](auto vecs, int64_t first, int64_t n) {
    constexpr int V = decltype(vecs)::value;
    const int64_t begin = first_key(distances, first), end = end_key(distances, first, n, T);
    WordsHead seen = head;
    seen.keys += begin * lanes / 2;
    seen.values += begin / 2 * lanes;
    attend_words<V>(q + first * q_stride, q_stride, n, end - begin, width, scale, seen,
                    out + first * out_stride, out_stride, [&](float* scores) {
                      adjust_scores<V>(distances, first, begin, end - begin, scores);
                    });
  });
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
