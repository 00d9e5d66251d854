// One row of a layer normalisation in the registers of a warp; layer_norm.cu and
// residual_norm.cu say what goes in and out.
//
// Lane l of the warp owns packs l, l + 32, l + 64 ... of sixteen bytes: loads are coalesced, a row
// is read once, and the two sums need shuffles only, no shared memory and no barrier. Two passes
// over the registers give the variance without cancellation.
#pragma once

#include "cuda/common.cuh"

namespace coldpress {

constexpr int kNormWarps = 4;  // rows a block

// Widest row that fits: 8 packs a lane are 32 registers of float32 input, 64 of 16-bit input.
constexpr int kMostPacks = 8;

template <class T>
constexpr int64_t most_width() {
  return int64_t{kMostPacks} * kWarp * Pack<T>::kSize;
}

template <class T, int kPacks>
struct WarpRow {
  using P = Pack<T>;
  float values[kPacks][P::kSize];

  // Calls body(pack number, first element) for the packs of this lane that lie within D.
  template <class Body>
  __device__ static void packs(int64_t D, const Body& body) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int64_t d = (int64_t{p} * kWarp + threadIdx.x % kWarp) * P::kSize;
      if (d < D) body(p, d);
    }
  }

  __device__ void load(const T* row, int64_t D, bool aligned) {
    packs(D, [&](int p, int64_t d) {
      const P pack = P::load(row, d, D, aligned);
      P::each(D - d, [&](int i) { values[p][i] = to_float(pack.values[i]); });
    });
  }

  __device__ void add(const T* row, int64_t D, bool aligned) {
    packs(D, [&](int p, int64_t d) {
      const P pack = P::load(row, d, D, aligned);
      P::each(D - d, [&](int i) { values[p][i] += to_float(pack.values[i]); });
    });
  }

  // Rounds to T what the caller is going to store, so that both see the same values.
  __device__ void round(int64_t D) {
    packs(D, [&](int p, int64_t d) {
      P::each(D - d, [&](int i) { values[p][i] = to_float(from_float<T>(values[p][i])); });
    });
  }

  // values, plus `shift` where it is not null.
  __device__ void store(T* row, const T* shift, int64_t D, bool aligned) const {
    packs(D, [&](int p, int64_t d) {
      P pack, s;
      if (shift != nullptr) s = P::load(shift, d, D, aligned);
      P::each(D - d, [&](int i) {
        const float more = shift != nullptr ? to_float(s.values[i]) : 0.0f;
        pack.values[i] = from_float<T>(values[p][i] + more);
      });
      pack.store(row, d, D, aligned);
    });
  }

  __device__ void normalize(const T* weight, const T* bias, float eps, int64_t D, bool aligned) {
    float sum = 0.0f;
    packs(D, [&](int p, int64_t d) { P::each(D - d, [&](int i) { sum += values[p][i]; }); });
    const float mean = warp_sum(sum) / static_cast<float>(D);
    float squares = 0.0f;
    packs(D, [&](int p, int64_t d) {
      P::each(D - d, [&](int i) {
        const float deviation = values[p][i] - mean;
        squares += deviation * deviation;
      });
    });
    const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(D) + eps);
    packs(D, [&](int p, int64_t d) {
      const P w = P::load(weight, d, D, aligned), b = P::load(bias, d, D, aligned);
      P::each(D - d, [&](int i) {
        values[p][i] =
            (values[p][i] - mean) * scale * to_float(w.values[i]) + to_float(b.values[i]);
      });
    });
  }

  // Codes of the values, and what a step is worth.
  __device__ void store_codes(Code* row, float* step, int64_t D, bool aligned) const {
    float top = 0.0f;
    bool bad = false;
    packs(D, [&](int p, int64_t d) {
      P::each(D - d, [&](int i) {
        top = fmaxf(top, fabsf(values[p][i]));
        bad |= values[p][i] != values[p][i];
      });
    });
    top = warp_max(top);
    bad = __any_sync(0xffffffffu, bad);
    const float inverse = top > 0.0f ? kMostCode / top : 0.0f;
    packs(D, [&](int p, int64_t d) {
      Codes<P::kSize> codes;
      P::each(D - d, [&](int i) { codes.values[i] = Code(values[p][i] * inverse); });
      codes.store(row, d, D, aligned);
    });
    if (threadIdx.x % kWarp == 0) *step = bad ? nanf("") : top / kMostCode;
  }
};

// Calls body(std::integral_constant<int, kPacks>) with enough packs a lane for rows of D.
template <class T, class Body>
void dispatch_packs(int64_t D, const char* op, const Body& body) {
  const int64_t packs = ceil_div(D, int64_t{kWarp} * Pack<T>::kSize);
  if (packs <= 4) return body(std::integral_constant<int, 4>{});
  STD_TORCH_CHECK(packs <= kMostPacks, "coldpress::", op, ": rows of ", D, " are too wide");
  body(std::integral_constant<int, kMostPacks>{});
}

}  // namespace coldpress
