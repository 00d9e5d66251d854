// GELU in float32: erff and tanhf, not their fast versions, because at the intensity of the kernels
// that use them the arithmetic hides behind the loads.
#pragma once

namespace coldpress {

__device__ inline float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118f)); }

__device__ inline float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanhf(0.79788456080f * (x + 0.044715f * x * x * x)));
}

}  // namespace coldpress
