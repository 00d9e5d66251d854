// The activations of ops/linear.py, in float32. erff, tanhf, expf and the exact quotient, not their
// fast versions: at the intensity of the kernels that use them the arithmetic hides behind the
// loads, that of GELU just about.
#pragma once

#include "cuda/common.cuh"

namespace coldpress {

enum class Activation { none, gelu, gelu_tanh, relu, relu6, quick_gelu, silu };

// Activates a pack: one branch for all of its values.
template <int kSize>
__device__ void activate(float (&values)[kSize], Activation activation) {
  const auto each = [&](auto function) {
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] = function(values[i]);
  };
  switch (activation) {
    case Activation::none:
      return;
    case Activation::gelu:
      return each([](float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118f)); });
    case Activation::gelu_tanh:
      return each([](float x) {
        return 0.5f * x * (1.0f + tanhf(0.79788456080f * (x + 0.044715f * x * x * x)));
      });
    case Activation::relu:  // a NaN stays one
      return each([](float x) { return x < 0.0f ? 0.0f : x; });
    case Activation::relu6:
      return each([](float x) { return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x; });
    case Activation::quick_gelu:
      return each([](float x) { return x / (1.0f + expf(-1.702f * x)); });
    case Activation::silu:
      return each([](float x) { return x / (1.0f + expf(-x)); });
  }
}

inline Activation activation_named(const std::string& name, const char* op) {
  constexpr std::pair<const char*, Activation> kNames[] = {
      {"none", Activation::none},   {"gelu", Activation::gelu},
      {"relu", Activation::relu},   {"gelu_tanh", Activation::gelu_tanh},
      {"relu6", Activation::relu6}, {"quick_gelu", Activation::quick_gelu},
      {"silu", Activation::silu},
  };
  for (const auto& [known, activation] : kNames) {
    if (name == known) return activation;
  }
  STD_TORCH_CHECK(false, "coldpress::", op, ": unknown activation ", name);
  return Activation::none;
}

}  // namespace coldpress
