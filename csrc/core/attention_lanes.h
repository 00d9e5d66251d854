// Queries in the lanes: how rows of them become columns and back, for both kinds of attention.
#pragma once

#include <type_traits>

#include "core/distances.h"
#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// out (round_up(width, 16), 16 * V) = map of transposed rows of x (n, width); lanes behind n are 0.
template <int V, class Map>
void rows_to_lanes(const float* x, int64_t stride, int64_t n, int64_t width, float* out, Map map) {
  for (int64_t d = 0; d < width; d += kLanes) {
    for (int64_t v = 0; v < V; ++v) {
      Vec rows[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        const int64_t row = v * kLanes + i;
        rows[i] = row < n ? map(load_first(x + row * stride + d, width - d), d) : Vec::set(0.0f);
      }
      transpose(rows);
      for (int64_t i = 0; i < kLanes; ++i) rows[i].store(out + ((d + i) * V + v) * kLanes);
    }
  }
}

// The way back: x (round_up(width, 16), 16 * V) to n rows of `width` floats.
template <int V>
void lanes_to_rows(const float* x, int64_t n, int64_t width, float* out, int64_t stride) {
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

// Greatest of T scores (T, 16 * V) of each lane.
template <int V>
void greatest(const float* scores, int64_t T, Vec (&top)[V]) {
  for (int v = 0; v < V; ++v) top[v] = Vec::load(scores + v * kLanes);
  for (int64_t t = 1; t < T; ++t) {
    for (int v = 0; v < V; ++v) top[v] = max(top[v], Vec::load(scores + (t * V + v) * kLanes));
  }
}

// Scores (keys, 16 * V) of queries `first` on against keys `first_key` on, in units of log2(e):
// biases added, what lies outside the window far below the rest.
template <int V>
void apply_distances(const Distances& distances, int64_t first, int64_t first_key, int64_t keys,
                     float* scores) {
  static constexpr float kIota[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Vec log2_e = Vec::set(1.44269504089f), hidden = Vec::set(-1e30f);
  const Vec left = Vec::set(static_cast<float>(distances.left));
  const Vec right = Vec::set(-static_cast<float>(distances.right));
  for (int64_t t = 0; t < keys; ++t) {
    for (int64_t v = 0; v < V; ++v) {
      float* at = scores + (t * V + v) * kLanes;
      const int64_t d = first + v * kLanes - first_key - t;
      Vec score = Vec::load(at);
      if (distances.bias != nullptr) {
        score = fma(load_first(distances.bias + d, distances.reach + 1 - d), log2_e, score);
      }
      const Vec behind = Vec::set(static_cast<float>(d)) + Vec::load(kIota);
      score = select_less(left, behind, hidden, select_less(behind, right, hidden, score));
      score.store(at);
    }
  }
}

// The same scores with the bias of each key added.
template <int V>
void apply_key_bias(const float* bias, int64_t keys, float* scores) {
  for (int64_t t = 0; t < keys; ++t) {
    const Vec added = Vec::set(bias[t] * 1.44269504089f);
    for (int64_t v = 0; v < V; ++v) {
      float* at = scores + (t * V + v) * kLanes;
      (Vec::load(at) + added).store(at);
    }
  }
}

// Scores of queries `first` on against `keys` keys from `first_key` on, with all that bears on
// them.
template <int V>
void adjust_scores(const Distances& distances, int64_t first, int64_t first_key, int64_t keys,
                   float* scores) {
  if (distances.keys != nullptr) apply_key_bias<V>(distances.keys + first_key, keys, scores);
  if (matter(distances)) apply_distances<V>(distances, first, first_key, keys, scores);
}

// Calls attend(width, first, n) for the queries of a sequence, 16 * width of them at a time.
template <class Attend>
inline void for_each_query_block(int64_t T, Attend&& attend) {
  constexpr int64_t kStep = 4 * kLanes;
  for (int64_t first = 0; first < T; first += kStep) {
    const int64_t n = T - first < kStep ? T - first : kStep;
    switch (round_up(n, kLanes) / kLanes) {
      case 1:
        attend(std::integral_constant<int, 1>{}, first, n);
        break;
      case 2:
        attend(std::integral_constant<int, 2>{}, first, n);
        break;
      case 3:
        attend(std::integral_constant<int, 3>{}, first, n);
        break;
      default:
        attend(std::integral_constant<int, 4>{}, first, n);
    }
  }
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
