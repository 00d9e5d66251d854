// What bears on scores beside queries and keys: how far they are apart, and a bias of each key.
// Known to kernels and launchers.
#pragma once

#include <cstdint>

namespace coldpress {

// A query d tokens behind a key (d < 0: in front of it) sees it where -right <= d <= left.
struct Distances {
  const float* bias;  // bias[d] is added to its score, -reach <= d <= reach; or null
  int64_t reach;
  int64_t left;
  int64_t right;
  const float* keys = nullptr;  // keys[t] is added to every score of key t; or null
};

namespace {

constexpr int64_t kUnbounded = int64_t{1} << 40;
constexpr Distances kEverywhere{nullptr, 0, kUnbounded, kUnbounded};

inline bool matter(const Distances& distances) {
  return distances.bias != nullptr || distances.left < kUnbounded || distances.right < kUnbounded;
}

// Keys [first_key, end_key) of T are those that some of queries [first, first + n) see. An even
// beginning keeps pairs of words together.
inline int64_t first_key(const Distances& distances, int64_t first) {
  return first > distances.left ? (first - distances.left) / 2 * 2 : 0;
}

inline int64_t end_key(const Distances& distances, int64_t first, int64_t n, int64_t T) {
  return first + n + distances.right < T ? first + n + distances.right : T;
}

}  // namespace
}  // namespace coldpress
