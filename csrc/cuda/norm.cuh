// One row of a layer normalisation in the registers of a warp; layer_norm.cu and residual_norm.cu
// say what goes in and out.
//
// Lane l of the warp owns packs l, l + 32, l + 64 ... of sixteen bytes: loads are coalesced, a row
// is read once, and the two sums need shuffles only, no shared memory and no barrier. Two passes
// over the registers give the variance without cancellation. Rows are made of whole, aligned packs.
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

  // Calls body(value) for all of them.
  template <class Body>
  __device__ void each(int64_t D, const Body& body) {
    packs(D, [&](int p, int64_t) {
#pragma unroll
      for (int i = 0; i < P::kSize; ++i) body(values[p][i]);
    });
  }

  __device__ void load(const T* row, int64_t D) {
    packs(D, [&](int p, int64_t d) {
      const P pack = P::load(row, d, D, true);
#pragma unroll
      for (int i = 0; i < P::kSize; ++i) values[p][i] = to_float(pack.values[i]);
    });
  }

  __device__ void add(const T* row, int64_t D) {
    packs(D, [&](int p, int64_t d) {
      const P pack = P::load(row, d, D, true);
#pragma unroll
      for (int i = 0; i < P::kSize; ++i) values[p][i] += to_float(pack.values[i]);
    });
  }

  // Rounds to T what the caller is going to store, so that both see the same values.
  __device__ void round(int64_t D) {
    each(D, [](float& value) { value = to_float(from_float<T>(value)); });
  }

  // The values, plus `shift` where it is not null.
  __device__ void store(T* row, const T* shift, int64_t D) const {
    packs(D, [&](int p, int64_t d) {
      P pack;
      if (shift != nullptr) pack = P::load(shift, d, D, true);
#pragma unroll
      for (int i = 0; i < P::kSize; ++i) {
        const float more = shift != nullptr ? to_float(pack.values[i]) : 0.0f;
        pack.values[i] = from_float<T>(values[p][i] + more);
      }
      pack.store(row, d, D, true);
    });
  }

  __device__ void normalize(const T* weight, const T* bias, float eps, int64_t D) {
    float sum = 0.0f, squares = 0.0f;
    each(D, [&](float& value) { sum += value; });
    const float mean = warp_sum(sum) / static_cast<float>(D);
    each(D, [&](float& value) {
      const float deviation = value - mean;
      squares += deviation * deviation;
    });
    const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(D) + eps);
    packs(D, [&](int p, int64_t d) {
      const P w = P::load(weight, d, D, true), b = P::load(bias, d, D, true);
#pragma unroll
      for (int i = 0; i < P::kSize; ++i) {
        const float value = (values[p][i] - mean) * scale;
        values[p][i] = value * to_float(w.values[i]) + to_float(b.values[i]);
      }
    });
  }

  // Codes of the values, and what a step is worth.
  __device__ void store_codes(Code* row, float* step, int64_t D) {
    float top = 0.0f;
    bool bad = false;
    each(D, [&](float& value) {
      top = fmaxf(top, fabsf(value));
      bad |= value != value;
    });
    top = warp_max(top);
    bad = __any_sync(0xffffffffu, bad);
    const float inverse = top > 0.0f ? kMostCode / top : 0.0f;
    packs(D, [&](int p, int64_t d) {
      Codes<P::kSize> codes;
#pragma unroll
      for (int i = 0; i < P::kSize; ++i) codes.values[i] = Code(values[p][i] * inverse);
      codes.store(row + d);
    });
    if (threadIdx.x % kWarp == 0) *step = bad ? nanf("") : top / kMostCode;
  }
};

// Calls body(std::integral_constant<int, kPacks>) with enough packs a lane for rows of D.
template <class T, class Body>
void dispatch_packs(int64_t D, const char* op, const Body& body) {
  STD_TORCH_CHECK(D <= most_width<T>(), "coldpress::", op, ": rows of ", D, " are too wide");
  if (D <= most_width<T>() / 2) return body(std::integral_constant<int, kMostPacks / 2>{});
  body(std::integral_constant<int, kMostPacks>{});
}

}  // namespace coldpress
