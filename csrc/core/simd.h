// Sixteen floats, whatever the machine: one zmm, two ymm or an array. Kernels are written once on
// Vec, and since every operation is lane-wise IEEE arithmetic (multiply-add always fused,
// -ffp-contract off) and every reduction has one fixed order, all levels give the same bits.
//
// Everything lives in an anonymous namespace inside the level's own: no copy can leak into another.
#pragma once

#include <cstdint>
#include <cstring>

#if !defined(COLDPRESS_ISA_IS_scalar)
#include <immintrin.h>
#endif

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

constexpr int64_t kLanes = 16;

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

#if defined(COLDPRESS_ISA_IS_avx512)

struct Vec {
  __m512 v;

  static Vec set(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
};

// a * b + c, rounded once.
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
// a < b ? x : y
inline Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
// |magnitude| with the sign of `sign`, for magnitude >= 0.
inline Vec copy_sign(Vec magnitude, Vec sign) {
  const __m512 mask = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(magnitude.v, _mm512_and_ps(sign.v, mask))};
}
// 2^n where the low bits of the float `n` hold the integer (see exp), -126 <= n <= 127.
inline Vec power_of_two(Vec n) {
  const __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(n.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(0x3f800000)))};
}

#elif defined(COLDPRESS_ISA_IS_avx2)

struct Vec {
  __m256 lo, hi;

  static Vec set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Vec load(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, lo);
    _mm256_storeu_ps(p + 8, hi);
  }
  friend Vec operator+(Vec a, Vec b) {
    return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
  }
  friend Vec operator-(Vec a, Vec b) {
    return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
  }
  friend Vec operator*(Vec a, Vec b) {
    return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
  }
  friend Vec operator/(Vec a, Vec b) {
    return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
  }
};

inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline Vec abs(Vec a) {
  const __m256 mask = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(mask, a.lo), _mm256_andnot_ps(mask, a.hi)};
}
inline Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
inline Vec copy_sign(Vec magnitude, Vec sign) {
  const __m256 mask = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(magnitude.lo, _mm256_and_ps(sign.lo, mask)),
          _mm256_or_ps(magnitude.hi, _mm256_and_ps(sign.hi, mask))};
}
inline Vec power_of_two(Vec n) {
  const auto half = [](__m256 power) {
    const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(power), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(0x3f800000)));
  };
  return {half(n.lo), half(n.hi)};
}

#else

struct Vec {
  float v[kLanes];

  template <class F>
  static Vec each(F f) {
    Vec out;
    for (int64_t i = 0; i < kLanes; ++i) out.v[i] = f(i);
    return out;
  }
  static Vec set(float x) {
    return each([&](int64_t) { return x; });
  }
  static Vec load(const float* p) {
    return each([&](int64_t i) { return p[i]; });
  }
  static Vec load(const uint8_t* p) {
    return each([&](int64_t i) { return static_cast<float>(p[i]); });
  }
  void store(float* p) const {
    for (int64_t i = 0; i < kLanes; ++i) p[i] = v[i];
  }
  friend Vec operator+(Vec a, Vec b) {
    return each([&](int64_t i) { return a.v[i] + b.v[i]; });
  }
  friend Vec operator-(Vec a, Vec b) {
    return each([&](int64_t i) { return a.v[i] - b.v[i]; });
  }
  friend Vec operator*(Vec a, Vec b) {
    return each([&](int64_t i) { return a.v[i] * b.v[i]; });
  }
  friend Vec operator/(Vec a, Vec b) {
    return each([&](int64_t i) { return a.v[i] / b.v[i]; });
  }
};

inline Vec fma(Vec a, Vec b, Vec c) {
  return Vec::each([&](int64_t i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
// Like maxps and minps: the second operand when either is NaN.
inline Vec max(Vec a, Vec b) {
  return Vec::each([&](int64_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec min(Vec a, Vec b) {
  return Vec::each([&](int64_t i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec abs(Vec a) {
  return Vec::each([&](int64_t i) { return __builtin_fabsf(a.v[i]); });
}
inline Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  return Vec::each([&](int64_t i) { return a.v[i] < b.v[i] ? x.v[i] : y.v[i]; });
}
inline Vec copy_sign(Vec magnitude, Vec sign) {
  return Vec::each([&](int64_t i) { return __builtin_copysignf(magnitude.v[i], sign.v[i]); });
}
inline Vec power_of_two(Vec n) {
  return Vec::each([&](int64_t i) {
    uint32_t bits;
    std::memcpy(&bits, &n.v[i], 4);
    bits = (bits << 23) + 0x3f800000;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
  });
}

#endif

// The first n lanes from memory, the rest `fill`.
template <class T>
inline Vec load_first(const T* p, int64_t n, T fill = T(0)) {
  if (n >= kLanes) return Vec::load(p);
  T buffer[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) buffer[i] = i < n ? p[i] : fill;
  return Vec::load(buffer);
}

#if defined(COLDPRESS_ISA_IS_avx512)
inline __mmask16 first_lanes(int64_t n) {
  return static_cast<__mmask16>(n >= kLanes ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}
inline Vec load_first(const float* p, int64_t n, float fill = 0.0f) {
  return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), first_lanes(n), p)};
}
inline void store_first(Vec value, float* p, int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), value.v);
}
#else
inline void store_first(Vec value, float* p, int64_t n) {
  if (n >= kLanes) return value.store(p);
  float buffer[kLanes];
  value.store(buffer);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}
#endif

// Sum, greatest and smallest of the lanes, always as the same tree: halves, quarters, eighths,
// pairs.
#if defined(COLDPRESS_ISA_IS_scalar)
template <class F>
inline float reduce(Vec value, F f) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) value.v[i] = f(value.v[i], value.v[i + half]);
  }
  return value.v[0];
}
inline float reduce_add(Vec value) {
  return reduce(value, [](float a, float b) { return a + b; });
}
inline float reduce_max(Vec value) {
  return reduce(value, [](float a, float b) { return a > b ? a : b; });
}
inline float reduce_min(Vec value) {
  return reduce(value, [](float a, float b) { return a < b ? a : b; });
}
#else
#if defined(COLDPRESS_ISA_IS_avx512)
inline __m256 low(Vec value) { return _mm512_castps512_ps256(value.v); }
inline __m256 high(Vec value) { return _mm512_extractf32x8_ps(value.v, 1); }
#else
inline __m256 low(Vec value) { return value.lo; }
inline __m256 high(Vec value) { return value.hi; }
#endif
template <class Wide, class Narrow>
inline float reduce(Vec value, Wide wide, Narrow narrow) {
  const __m256 eight = wide(low(value), high(value));
  __m128 four = narrow(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = narrow(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(narrow(four, _mm_movehdup_ps(four)));
}
#define COLDPRESS_REDUCE(name)                                              \
  inline float reduce_##name(Vec value) {                                   \
    return reduce(                                                          \
        value, [](__m256 a, __m256 b) { return _mm256_##name##_ps(a, b); }, \
        [](__m128 a, __m128 b) { return _mm_##name##_ps(a, b); });          \
  }
COLDPRESS_REDUCE(add)
COLDPRESS_REDUCE(max)
COLDPRESS_REDUCE(min)
#undef COLDPRESS_REDUCE
#endif

// rows[i] lane j becomes rows[j] lane i.
inline void transpose(Vec (&rows)[kLanes]) {
#if defined(COLDPRESS_ISA_IS_avx512)
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {  // pairs of rows, then fours: 4 x 4 blocks are transposed
    a[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      const __m512d x = _mm512_castps_pd(a[i + j]), y = _mm512_castps_pd(a[i + j + 2]);
      b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
      b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
    }
  }
  for (int j = 0; j < 4; ++j) {  // then the blocks trade places
    const __m512 even_low = _mm512_shuffle_f32x4(b[j], b[j + 4], 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(b[j], b[j + 4], 0xdd);
    const __m512 even_high = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0x88);
    const __m512 odd_high = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0xdd);
    rows[j].v = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    rows[j + 8].v = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    rows[j + 4].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    rows[j + 12].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
#else
  float lanes[kLanes][kLanes];
  for (int64_t i = 0; i < kLanes; ++i) rows[i].store(lanes[i]);
  for (int64_t i = 0; i < kLanes; ++i) {
    float column[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) column[j] = lanes[j][i];
    rows[i] = Vec::load(column);
  }
#endif
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
