// Queries in the lanes: how rows of them become columns and back, for both kinds of attention.
#pragma once

#include <type_traits>

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
