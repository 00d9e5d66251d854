// Products of bytes, summed exactly: unsigned activations times signed weights, sixteen columns at
// a time, four values of k in each 32-bit lane. What vpdpbusd does in one instruction the other
// levels do through 16-bit products (vpmaddubsw would saturate), so all levels give the same
// integers.
//
// A sum stays below K * 255 * 127 in magnitude: exact in 32 bits for K <= 66,000.
#pragma once

#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

#if defined(COLDPRESS_ISA_IS_avx512_vnni)

struct Inputs {
  __m512i v;
};
struct Weights {
  __m512i v;
};
struct Sum {
  __m512i v;

  static Sum zero() { return {_mm512_setzero_si512()}; }
  Vec floats() const { return {_mm512_cvtepi32_ps(v)}; }
};
// Four neighbouring values of one row, in every lane.
inline Inputs broadcast_inputs(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return {_mm512_set1_epi32(four)};
}
// Four values of k of sixteen columns.
inline Weights load_weights(const int8_t* p) { return {_mm512_loadu_si512(p)}; }
// Not the intrinsic: GCC 12 copies its accumulator before and after, and spills 24 of them in the
// inner loop (390 instead of 950 GOP/s).
inline Sum dot(Sum sum, Inputs a, const Weights& b) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}

#elif defined(COLDPRESS_ISA_IS_avx512)

// Even and odd bytes apart, widened in place.
struct Inputs {
  __m512i even, odd;
};
struct Weights {
  __m512i even, odd;
};
struct Sum {
  __m512i v;

  static Sum zero() { return {_mm512_setzero_si512()}; }
  Vec floats() const { return {_mm512_cvtepi32_ps(v)}; }
};
inline Inputs broadcast_inputs(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  const __m512i all = _mm512_set1_epi32(four);
  return {_mm512_and_si512(all, _mm512_set1_epi16(0xff)), _mm512_srli_epi16(all, 8)};
}
inline Weights load_weights(const int8_t* p) {
  const __m512i all = _mm512_loadu_si512(p);
  return {_mm512_srai_epi16(_mm512_slli_epi16(all, 8), 8), _mm512_srai_epi16(all, 8)};
}
inline Sum dot(Sum sum, Inputs a, const Weights& b) {
  const __m512i both =
      _mm512_add_epi32(_mm512_madd_epi16(a.even, b.even), _mm512_madd_epi16(a.odd, b.odd));
  return {_mm512_add_epi32(sum.v, both)};
}

#elif defined(COLDPRESS_ISA_IS_avx2)

struct Inputs {
  __m256i even, odd;
};
struct Weights {
  __m256i even[2], odd[2];
};
struct Sum {
  __m256i lo, hi;

  static Sum zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  Vec floats() const { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }
};
inline Inputs broadcast_inputs(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  const __m256i all = _mm256_set1_epi32(four);
  return {_mm256_and_si256(all, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(all, 8)};
}
inline Weights load_weights(const int8_t* p) {
  Weights w;
  for (int half = 0; half < 2; ++half) {
    const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * half));
    w.even[half] = _mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8);
    w.odd[half] = _mm256_srai_epi16(all, 8);
  }
  return w;
}
inline Sum dot(Sum sum, Inputs a, const Weights& b) {
  const auto add = [&](__m256i to, int half) {
    const __m256i both = _mm256_add_epi32(_mm256_madd_epi16(a.even, b.even[half]),
                                          _mm256_madd_epi16(a.odd, b.odd[half]));
    return _mm256_add_epi32(to, both);
  };
  return {add(sum.lo, 0), add(sum.hi, 1)};
}

#else

struct Inputs {
  int32_t four[4];
};
struct Weights {
  const int8_t* p;
};
struct Sum {
  int32_t v[kLanes];

  static Sum zero() { return {}; }
  Vec floats() const {
    return Vec::each([&](int64_t i) { return static_cast<float>(v[i]); });
  }
};
inline Inputs broadcast_inputs(const uint8_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
inline Weights load_weights(const int8_t* p) { return {p}; }
inline Sum dot(Sum sum, const Inputs& a, const Weights& b) {
  for (int64_t i = 0; i < kLanes; ++i) {
    for (int64_t j = 0; j < 4; ++j) sum.v[i] += a.four[j] * b.p[4 * i + j];
  }
  return sum;
}

#endif

// Rounds to the nearest integer (ties to even) and stores sixteen bytes; for values in [0, 255].
// Adding 1.5 * 2^23 leaves the integer in the low bits of the float.
inline void store_bytes(Vec value, uint8_t* p) {
  const Vec shifted = value + Vec::set(12582912.0f);
#if defined(COLDPRESS_ISA_IS_avx512)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_cvtepi32_epi8(_mm512_castps_si512(shifted.v)));
#else
  float lanes[kLanes];
  shifted.store(lanes);
  for (int64_t i = 0; i < kLanes; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &lanes[i], 4);
    p[i] = static_cast<uint8_t>(bits);
  }
#endif
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
