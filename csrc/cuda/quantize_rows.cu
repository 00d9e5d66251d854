// quantize_rows on CUDA: activation(x + bias) in 16 bits to float8, with a step a row.
//
// Bound by memory: x in, a byte a value out. The step needs the largest magnitude of a row before
// the first byte can be written, so one block of 128 threads holds a row in registers: up to 8,192
// values of 16 bits, the width of the feed-forward block of the largest encoders. Where a separate
// GELU would write two bytes a value and read them again, this writes one. Gain: not yet measured.
#include <optional>

#include "cuda/activation.cuh"
#include "cuda/common.cuh"

namespace coldpress {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kPacks = 8;

__device__ float block_max(float value) {
  __shared__ float partial[kWarps];
  value = warp_max(value);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) value = fmaxf(value, partial[warp]);
  return value;
}

// x, codes: (rows, D), one row a block, of whole packs; bias: (D) or null; steps: (rows).
template <class T>
__global__ void quantize_rows_kernel(const T* x, const T* bias, Activation activation, int64_t D,
                                     Code* codes, float* steps) {
  using P = Pack<T>;
  const int64_t at = int64_t{blockIdx.x} * D;
  float values[kPacks][P::kSize];
  float top = 0.0f;
  bool bad = false;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t d = (int64_t{p} * kThreads + threadIdx.x) * P::kSize;
    if (d >= D) break;
    const P pack = P::load(x + at, d, D, true);
    P more;
    if (bias != nullptr) more = P::load(bias, d, D, true);
#pragma unroll
    for (int i = 0; i < P::kSize; ++i) {
      values[p][i] = to_float(pack.values[i]) + (bias ? to_float(more.values[i]) : 0.0f);
    }
    activate(values[p], activation);
#pragma unroll
    for (int i = 0; i < P::kSize; ++i) {
      top = fmaxf(top, fabsf(values[p][i]));
      bad |= values[p][i] != values[p][i];
    }
  }
  top = block_max(top);
  bad = __syncthreads_or(bad);
  const float inverse = top > 0.0f ? kMostCode / top : 0.0f;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t d = (int64_t{p} * kThreads + threadIdx.x) * P::kSize;
    if (d >= D) break;
    Codes<P::kSize> row;
#pragma unroll
    for (int i = 0; i < P::kSize; ++i) row.values[i] = Code(values[p][i] * inverse);
    row.store(codes + at + d);
  }
  if (threadIdx.x == 0) steps[blockIdx.x] = bad ? nanf("") : top / kMostCode;
}

std::tuple<Tensor, Tensor> quantize_rows(const Tensor& x, const std::optional<Tensor>& bias,
                                         const std::string& activation) {
  const int64_t rows = row_count(x), D = x.size(-1);
  check_like(x, x, "quantize_rows: x");
  if (bias) {
    STD_TORCH_CHECK(bias->numel() == D, "coldpress::quantize_rows: bias must have the width of x");
    check_like(*bias, x, "quantize_rows: bias");
  }
  const Activation how = activation_named(activation, "quantize_rows");
  Tensor codes = torch::stable::new_empty(x, {rows, D}, ScalarType::Float8_e4m3fn);
  Tensor steps = torch::stable::new_empty(x, {rows}, ScalarType::Float);
  const Launch launch(x);
  dispatch_halves(x.scalar_type(), "quantize_rows", [&](auto type) {
    using T = decltype(type);
    STD_TORCH_CHECK(D <= int64_t{kPacks} * kThreads * Pack<T>::kSize,
                    "coldpress::quantize_rows: rows of ", D, " are too wide");
    const T* x_data = elements<T>(x);
    const T* bias_data = bias ? elements<T>(*bias) : nullptr;
    Code* code_data = mutable_elements<Code>(codes);
    STD_TORCH_CHECK(aligned_rows<T>(D, x_data, bias_data, code_data),
                    "coldpress::quantize_rows: expected rows of whole, aligned packs of ",
                    Pack<T>::kSize, " values");
    launch("quantize_rows", quantize_rows_kernel<T>, rows, kThreads, 0, x_data, bias_data, how, D,
           code_data, mutable_elements<float>(steps));
  });
  return {codes, steps};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) {
  m.impl("quantize_rows", TORCH_BOX(&quantize_rows));
}

}  // namespace coldpress
