// Products of small integers, summed exactly: bytes (unsigned activations times signed weights,
// four values of k in each 32-bit lane) and words (both signed, two values of k). What vpdpbusd and
// vpdpwssd do in one instruction the other levels do through 16-bit products (vpmaddubsw would
// saturate), so all levels give the same integers.
//
// A sum of bytes stays below K * 255 * 127 in magnitude: exact in 32 bits for K <= 66,000. Words
// are at most 4095 (or 8191 and 2047) in magnitude: exact for 128 of them, and then added up in
// floats.
#pragma once

#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Sixteen sums. On AVX-512 its lanes are those of Vec, and so they are elsewhere.
#if defined(COLDPRESS_ISA_IS_avx512)
struct Sum {
  __m512i v;

  static Sum zero() { return {_mm512_setzero_si512()}; }
  Vec floats() const { return {_mm512_cvtepi32_ps(v)}; }
};
#elif defined(COLDPRESS_ISA_IS_avx2)
struct Sum {
  __m256i lo, hi;

  static Sum zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  Vec floats() const { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }
};
#else
struct Sum {
  int32_t v[kLanes];

  static Sum zero() { return {}; }
  Vec floats() const {
    return Vec::each([&](int64_t i) { return static_cast<float>(v[i]); });
  }
};
#endif

// The integer nearest to each value (ties to even) as a float whose low bits hold it too, in two's
// complement; for |value| < 2^22.
inline Vec rounded(Vec value) { return value + Vec::set(12582912.0f); }

struct Bytes {
  static constexpr int64_t kGroup = 4;                   // values of k in a lane
  static constexpr int64_t kChunk = 0;                   // groups whose sum is exact; 0: all
  static constexpr float kSteps = 255.0f, kZero = 0.0f;  // a row spans [-kZero, kSteps - kZero]

#if defined(COLDPRESS_ISA_IS_avx512_vnni)
  static constexpr int kRows = 6, kVecs = 4;
  struct Inputs {
    __m512i v;
  };
  struct Weights {
    __m512i v;
  };
  static Inputs broadcast(const int32_t* p) { return {_mm512_set1_epi32(*p)}; }
  static Weights load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  // Not the intrinsic: GCC 12 copies its accumulator before and after, and spills 24 of them in
  // the inner loop (390 instead of 950 GOP/s).
  static Sum dot(Sum sum, const Inputs& a, const Weights& b) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
    return sum;
  }
#elif defined(COLDPRESS_ISA_IS_avx512)
  static constexpr int kRows = 6, kVecs = 2;
  struct Inputs {
    __m512i even, odd;  // bytes widened in place
  };
  struct Weights {
    __m512i even, odd;
  };
  static Inputs broadcast(const int32_t* p) {
    const __m512i all = _mm512_set1_epi32(*p);
    return {_mm512_and_si512(all, _mm512_set1_epi16(0xff)), _mm512_srli_epi16(all, 8)};
  }
  static Weights load(const int32_t* p) {
    const __m512i all = _mm512_loadu_si512(p);
    return {_mm512_srai_epi16(_mm512_slli_epi16(all, 8), 8), _mm512_srai_epi16(all, 8)};
  }
  static Sum dot(Sum sum, const Inputs& a, const Weights& b) {
    const __m512i both =
        _mm512_add_epi32(_mm512_madd_epi16(a.even, b.even), _mm512_madd_epi16(a.odd, b.odd));
    return {_mm512_add_epi32(sum.v, both)};
  }
#elif defined(COLDPRESS_ISA_IS_avx2)
  static constexpr int kRows = 3, kVecs = 1;
  struct Inputs {
    __m256i even, odd;
  };
  struct Weights {
    __m256i even[2], odd[2];
  };
  static Inputs broadcast(const int32_t* p) {
    const __m256i all = _mm256_set1_epi32(*p);
    return {_mm256_and_si256(all, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(all, 8)};
  }
  static Weights load(const int32_t* p) {
    Weights w;
    for (int half = 0; half < 2; ++half) {
      const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8 * half));
      w.even[half] = _mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8);
      w.odd[half] = _mm256_srai_epi16(all, 8);
    }
    return w;
  }
  static Sum dot(Sum sum, const Inputs& a, const Weights& b) {
    const auto add = [&](__m256i to, int half) {
      const __m256i both = _mm256_add_epi32(_mm256_madd_epi16(a.even, b.even[half]),
                                            _mm256_madd_epi16(a.odd, b.odd[half]));
      return _mm256_add_epi32(to, both);
    };
    return {add(sum.lo, 0), add(sum.hi, 1)};
  }
#else
  static constexpr int kRows = 3, kVecs = 1;
  struct Inputs {
    uint8_t four[4];
  };
  struct Weights {
    int8_t v[4 * kLanes];
  };
  static Inputs broadcast(const int32_t* p) {
    Inputs a;
    std::memcpy(&a, p, sizeof a);
    return a;
  }
  static Weights load(const int32_t* p) {
    Weights b;
    std::memcpy(&b, p, sizeof b);
    return b;
  }
  static Sum dot(Sum sum, const Inputs& a, const Weights& b) {
    for (int64_t i = 0; i < kLanes; ++i) {
      for (int64_t j = 0; j < 4; ++j) sum.v[i] += a.four[j] * b.v[4 * i + j];
    }
    return sum;
  }
#endif

  // Sixteen values of [0, 255], rounded, to 16 bytes.
  static void store(Vec value, int32_t* p) {
    const Vec bits = rounded(value);
#if defined(COLDPRESS_ISA_IS_avx512)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm512_cvtepi32_epi8(_mm512_castps_si512(bits.v)));
#else
    store_low<uint8_t>(bits, p);
#endif
  }

  template <class T>
  static void store_low(Vec bits, int32_t* p) {
    uint32_t lanes[kLanes];
    bits.store(reinterpret_cast<float*>(lanes));
    T low[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) low[i] = static_cast<T>(lanes[i]);
    std::memcpy(p, low, sizeof low);
  }
};

struct Words {
  static constexpr int64_t kGroup = 2;
  static constexpr int64_t kChunk = 64;
  static constexpr float kSteps = 8190.0f, kZero = 4095.0f;

#if defined(COLDPRESS_ISA_IS_avx512)
  static constexpr int kRows = 6, kVecs = 4;
  struct Inputs {
    __m512i v;
  };
  struct Weights {
    __m512i v;
  };
  static Inputs broadcast(const int32_t* p) { return {_mm512_set1_epi32(*p)}; }
  static Weights load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  static Sum dot(Sum sum, const Inputs& a, const Weights& b) {
#if defined(COLDPRESS_ISA_IS_avx512_vnni)
    asm("vpdpwssd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
    return sum;
#else
    return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(a.v, b.v))};
#endif
  }
#elif defined(COLDPRESS_ISA_IS_avx2)
  static constexpr int kRows = 4, kVecs = 1;
  struct Inputs {
    __m256i v;
  };
  struct Weights {
    __m256i lo, hi;
  };
  static Inputs broadcast(const int32_t* p) { return {_mm256_set1_epi32(*p)}; }
  static Weights load(const int32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
  }
  static Sum dot(Sum sum, const Inputs& a, const Weights& b) {
    return {_mm256_add_epi32(sum.lo, _mm256_madd_epi16(a.v, b.lo)),
            _mm256_add_epi32(sum.hi, _mm256_madd_epi16(a.v, b.hi))};
  }
#else
  static constexpr int kRows = 3, kVecs = 1;
  struct Inputs {
    int16_t two[2];
  };
  struct Weights {
    int16_t v[2 * kLanes];
  };
  static Inputs broadcast(const int32_t* p) {
    Inputs a;
    std::memcpy(&a, p, sizeof a);
    return a;
  }
  static Weights load(const int32_t* p) {
    Weights b;
    std::memcpy(&b, p, sizeof b);
    return b;
  }
  static Sum dot(Sum sum, const Inputs& a, const Weights& b) {
    for (int64_t i = 0; i < kLanes; ++i) {
      for (int64_t j = 0; j < 2; ++j) sum.v[i] += a.two[j] * b.v[2 * i + j];
    }
    return sum;
  }
#endif

  // Sixteen values of [-8191, 8191], rounded, to 16 words.
  static void store(Vec value, int32_t* p) {
    const Vec bits = rounded(value);
#if defined(COLDPRESS_ISA_IS_avx512)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_castps_si512(bits.v)));
#else
    Bytes::store_low<uint16_t>(bits, p);
#endif
  }

  // Lane i of two vectors, both `rounded`, side by side: the group of k, k + 1 of column i.
  static void store_pairs(Vec even, Vec odd, int32_t* p) {
#if defined(COLDPRESS_ISA_IS_avx512)
    const __m512i high = _mm512_slli_epi32(_mm512_castps_si512(odd.v), 16);
    _mm512_storeu_si512(p, _mm512_mask_blend_epi16(0x55555555, high, _mm512_castps_si512(even.v)));
#else
    uint32_t low[kLanes], high[kLanes];
    even.store(reinterpret_cast<float*>(low));
    odd.store(reinterpret_cast<float*>(high));
    for (int64_t i = 0; i < kLanes; ++i) low[i] = (low[i] & 0xffff) | high[i] << 16;
    std::memcpy(p, low, sizeof low);
#endif
  }
};

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
