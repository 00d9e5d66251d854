// Transcendental functions on Vec, to about one unit in the last place.
#pragma once

#include "core/kernel.h"
#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

template <int N>
inline Vec polynomial(Vec x, const float (&coefficients)[N]) {
  Vec sum = Vec::set(coefficients[N - 1]);
  for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, Vec::set(coefficients[i]));
  return sum;
}

// e^x for x <= 88; below -87 the result is a positive number under 2e-38. A NaN stays NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 p(r), p a minimax polynomial (3.6e-9).
inline Vec exp(Vec x) {
  // Adding 1.5 * 2^23 leaves the integer nearest to x / ln 2 in the low bits of the sum.
  const Vec magic = Vec::set(12582912.0f);
  constexpr float kTerms[] = {0.49999988584f, 0.16666518356f, 0.04166953480f, 0.00836892890f,
                              0.00137513827f};
  const Vec clamped = min(Vec::set(88.0f), max(Vec::set(-87.0f), x));  // NaN is the second operand
  const Vec shifted = fma(clamped, Vec::set(1.44269504089f), magic);
  const Vec n = shifted - magic;
  Vec r = fma(n, Vec::set(-0.693359375f), clamped);
  r = fma(n, Vec::set(2.12194440e-4f), r);
  const Vec p = fma(r * r, polynomial(r, kTerms), r) + Vec::set(1.0f);
  // The integer arithmetic of the scaling would turn a NaN into a number; clamped - clamped keeps
  // it.
  return scale_by_power(p, shifted) + (clamped - clamped);
}

// erf(x): x + x p(x^2) below 0.9 (minimax, 1.3e-8 relative), 1 - e^q(|x|) above (5e-11 absolute).
inline Vec erf(Vec x) {
  constexpr float kSmall[] = {0.12837915218f,  -0.37612511801f, 0.11282013004f,
                              -0.02677399739f, 0.00500434811f,  -0.00060494348f};
  constexpr float kLarge[] = {0.00017054631f, -1.12949513107f, -0.63338670413f, -0.10823655485f,
                              0.02509145435f, -0.00416051059f, 0.00043229956f,  -0.00002090925f};
  const Vec magnitude = abs(x);
  const Vec a = min(Vec::set(4.0f), magnitude);
  const Vec small = fma(x, polynomial(x * x, kSmall), x);
  const Vec large = copy_sign(Vec::set(1.0f) - exp(polynomial(a, kLarge)), x);
  return select_less(magnitude, Vec::set(0.9f), small, large);
}

// x * Phi(x), the exact GELU.
inline Vec gelu(Vec x) {
  const Vec half = Vec::set(0.5f) * x;
  return fma(half, erf(x * Vec::set(0.70710678118f)), half);
}

// x * sigmoid(y)
inline Vec times_sigmoid(Vec x, Vec y) { return x / (Vec::set(1.0f) + exp(Vec::set(0.0f) - y)); }

// The tanh approximation of GELU, written with the logistic function: (1 + tanh u) / 2 =
// sigmoid(2u).
inline Vec gelu_tanh(Vec x) {
  const Vec cubic = fma(x * x * x, Vec::set(0.044715f), x);
  return times_sigmoid(x, cubic * Vec::set(1.59576912161f));
}

inline Vec activate(Activation activation, Vec x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::gelu:
      return gelu(x);
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::relu:
      return max(Vec::set(0.0f), x);
    case Activation::quick_gelu:
      return times_sigmoid(x, x * Vec::set(1.702f));
    case Activation::silu:
      return times_sigmoid(x, x);
  }
  return x;
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
