// bias_gelu on CUDA, float32, float16 or bfloat16: gelu(x + bias) with the sum and GELU in float32.
//
// Bound by memory: x in, one result out; the bias stays in L1. One block owns a row, so no thread
// divides to find its column. Gain: not yet measured.
#include "cuda/common.cuh"
#include "cuda/gelu.cuh"

namespace coldpress {
namespace {

constexpr int kThreads = 128;

// x, out: (rows, D), one row a block; bias: (D).
template <class T>
__global__ void bias_gelu_kernel(const T* x, const T* bias, bool tanh, int64_t D, bool aligned,
                                 T* out) {
  using P = Pack<T>;
  const int64_t at = int64_t{blockIdx.x} * D;
  for (int64_t d = threadIdx.x * P::kSize; d < D; d += kThreads * P::kSize) {
    P pack = P::load(x + at, d, D, aligned);
    const P b = P::load(bias, d, D, aligned);
    P::each(D - d, [&](int i) {
      const float sum = to_float(pack.values[i]) + to_float(b.values[i]);
      pack.values[i] = from_float<T>(tanh ? gelu_tanh(sum) : gelu(sum));
    });
    pack.store(out + at, d, D, aligned);
  }
}

Tensor bias_gelu(const Tensor& x, const Tensor& bias, bool tanh) {
  const int64_t D = x.size(-1), rows = row_count(x);
  STD_TORCH_CHECK(bias.numel() == D, "coldpress::bias_gelu: bias must have the width of x");
  check_like(x, x, "bias_gelu: x");
  check_like(bias, x, "bias_gelu: bias");
  Tensor out = torch::stable::empty_like(x);
  const Launch launch(x);
  dispatch_floating(x.scalar_type(), "bias_gelu", [&](auto type) {
    using T = decltype(type);
    const T* x_data = elements<T>(x);
    const T* bias_data = elements<T>(bias);
    T* out_data = mutable_elements<T>(out);
    launch("bias_gelu", bias_gelu_kernel<T>, rows, kThreads, 0, x_data, bias_data, tanh, D,
           aligned_rows<T>(D, x_data, bias_data, out_data), out_data);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) { m.impl("bias_gelu", TORCH_BOX(&bias_gelu)); }

}  // namespace coldpress
