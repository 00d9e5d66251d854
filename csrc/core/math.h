// Transcendental functions on Vec, to about one unit in the last place.
#pragma once

#include <type_traits>

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

// Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
constexpr float kRounder = 12582912.0f;

// e^x for x <= 88; below -87 the result is a positive number under 2e-38. A NaN stays NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 p(r), p a minimax polynomial (3.6e-9).
inline Vec exp(Vec x) {
  constexpr float kTerms[] = {0.49999988584f, 0.16666518356f, 0.04166953480f, 0.00836892890f,
                              0.00137513827f};
  const Vec clamped = min(Vec::set(88.0f), max(Vec::set(-87.0f), x));  // NaN is the second operand
  const Vec shifted = fma(clamped, Vec::set(1.44269504089f), Vec::set(kRounder));
  const Vec n = shifted - Vec::set(kRounder);
  Vec r = fma(n, Vec::set(-0.693359375f), clamped);
  r = fma(n, Vec::set(2.12194440e-4f), r);
  return (fma(r * r, polynomial(r, kTerms), r) + Vec::set(1.0f)) * power_of_two(shifted);
}

// 2^x for x <= 0; below -126 the result is 2^-126. A NaN stays NaN. x = n + r with |r| <= 1/2;
// 2^r = 1 + r q(r), q of degree 5 (minimax, 2.0e-9), evaluated as a tree: in a softmax it is the
// length of the chain that binds, not the number of operations.
inline Vec exp2(Vec x) {
  const Vec clamped = max(Vec::set(-126.0f), x);
  const Vec shifted = clamped + Vec::set(kRounder);
  const Vec r = clamped - (shifted - Vec::set(kRounder));
  const Vec square = r * r;
  const Vec low = fma(r, Vec::set(0.24022647738f), Vec::set(0.69314718246f));
  const Vec middle = fma(r, Vec::set(0.0096184369177f), Vec::set(0.055503323674f));
  const Vec high = fma(r, Vec::set(0.0001535336196f), Vec::set(0.0013398875017f));
  const Vec q = fma(square, fma(square, high, middle), low);
  return fma(r, q, Vec::set(1.0f)) * power_of_two(shifted);
}

// x * Phi(x), the exact GELU: x / 2 + |x| r(|x|) with r = Phi - 1/2 = a P(a^2) / Q(a^2), P and Q of
// degree 5 (minimax over [0, 5.46], 6e-9 absolute). At 5.46 the quotient rounds to 1/2 or more, so
// large |x| give x and 0 exactly. Against erf from two polynomials and an exponential: 0.345
// -> 0.124 ns a value on one core of a Zen 5, in L1.
inline Vec gelu(Vec x) {
  constexpr float kP[] = {0.39894223213f,    0.033655129373f,   0.0046662576497f,
                          0.00016696013336f, 6.3538291215e-06f, 2.3000673366e-08f};
  constexpr float kQ[] = {1.0f,
                          0.25102689862f,
                          0.028535654768f,
                          0.0018738826038f,
                          7.3123490438e-05f,
                          1.2049365523e-06f};
  const Vec magnitude = abs(x);
  const Vec a = min(Vec::set(5.46f), magnitude);  // a NaN is the second operand and stays
  const Vec square = a * a;
  const Vec ratio = a * polynomial(square, kP) / polynomial(square, kQ);
  return fma(magnitude, min(Vec::set(0.5f), ratio), Vec::set(0.5f) * x);
}

// GELU to 1.6e-4, where bytes go in and their 255 steps are a hundred times as wide: x (1/2 + x
// R(x^2)) with R of degree 6 (minimax of the product; at 3.94 the bracket is 1 or 0). No quotient:
// a layer 384 -> 1536 with its epilogue runs at 863 -> 897 GOP/s on one core of a Zen 5.
inline Vec coarse_gelu(Vec x) {
  constexpr float kR[] = {0.39800206f,    -0.064749464f,   0.0088575128f, -0.00083242683f,
                          4.9931237e-05f, -1.7014603e-06f, 2.4853158e-08f};
  const Vec a = max(Vec::set(-3.94f), min(Vec::set(3.94f), x));
  return x * fma(a, polynomial(a * a, kR), Vec::set(0.5f));
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
    case Activation::relu6:
      return min(Vec::set(6.0f), max(Vec::set(0.0f), x));
    case Activation::quick_gelu:
      return times_sigmoid(x, x * Vec::set(1.702f));
    case Activation::silu:
      return times_sigmoid(x, x);
  }
  return x;
}

// run(constant), the activation being known to the compiler: no epilogue decides anything.
template <class Run>
inline void with_activation(Activation activation, Run&& run) {
#define CASE(name)       \
  case Activation::name: \
    return run(std::integral_constant<Activation, Activation::name>{});
  switch (activation) {
    CASE(none)
    CASE(gelu)
    CASE(gelu_tanh)
    CASE(relu)
    CASE(relu6)
    CASE(quick_gelu)
    CASE(silu)
  }
#undef CASE
}

}  // namespace
}  // namespace coldpress::COLDPRESS_ISA_LEVEL
