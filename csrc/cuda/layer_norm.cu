// layer_norm and add_layer_norm on CUDA, float32, float16 or bfloat16, accumulated in float32.
//
// Bound by memory: x (and the residual) in, one or two results out. One warp owns a row, so the two
// sums need shuffles only, no shared memory and no barrier. A row of at most a few thousand values
// is still in L1 when the second and third pass read it, which buys the two-pass variance (no
// cancellation) without more traffic to DRAM. Never measured yet.
#include "cuda/common.cuh"

namespace coldpress {
namespace {

constexpr int kWarpsPerBlock = 4;

// x, residual, normed, summed: (rows, D); weight, bias: (D). residual and summed may be null
// together.
template <class T>
__global__ void layer_norm_kernel(const T* x, const T* residual, const T* weight, const T* bias,
                                  float eps, int64_t rows, int64_t D, bool aligned, T* normed,
                                  T* summed) {
  using P = Pack<T>;
  const int64_t row = int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.x / kWarp;
  if (row >= rows) return;
  const int64_t first = threadIdx.x % kWarp * P::kSize, step = kWarp * P::kSize;
  const T* values = x + row * D;
  float sum = 0.0f;
  for (int64_t d = first; d < D; d += step) {
    P pack = P::load(values, d, D, aligned);
    if (residual != nullptr) {
      const P other = P::load(residual + row * D, d, D, aligned);
      P::each(D - d, [&](int i) {
        pack.values[i] = from_float<T>(to_float(pack.values[i]) + to_float(other.values[i]));
      });
      pack.store(summed + row * D, d, D, aligned);
    }
    P::each(D - d, [&](int i) { sum += to_float(pack.values[i]); });
  }
  // Each thread reads back only what it wrote itself: no fence is needed.
  if (residual != nullptr) values = summed + row * D;
  const float mean = warp_sum(sum) / static_cast<float>(D);
  float squares = 0.0f;
  for (int64_t d = first; d < D; d += step) {
    const P pack = P::load(values, d, D, aligned);
    P::each(D - d, [&](int i) {
      const float deviation = to_float(pack.values[i]) - mean;
      squares += deviation * deviation;
    });
  }
  const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(D) + eps);
  for (int64_t d = first; d < D; d += step) {
    P pack = P::load(values, d, D, aligned);
    const P w = P::load(weight, d, D, aligned), b = P::load(bias, d, D, aligned);
    P::each(D - d, [&](int i) {
      const float value = (to_float(pack.values[i]) - mean) * scale;
      pack.values[i] = from_float<T>(value * to_float(w.values[i]) + to_float(b.values[i]));
    });
    pack.store(normed + row * D, d, D, aligned);
  }
}

void run(const char* op, const Tensor& x, const Tensor* residual, const Tensor& weight,
         const Tensor& bias, double eps, Tensor& normed, Tensor* summed) {
  const int64_t D = x.size(-1), rows = row_count(x);
  STD_TORCH_CHECK(weight.numel() == D && bias.numel() == D,
                  "coldpress::layer_norm: weight and bias must have the width of x");
  check_like(x, x, "layer_norm: x");
  check_like(weight, x, "layer_norm: weight");
  check_like(bias, x, "layer_norm: bias");
  const Launch launch(x);
  dispatch_floating(x.scalar_type(), op, [&](auto type) {
    using T = decltype(type);
    const T* x_data = elements<T>(x);
    const T* w_data = elements<T>(weight);
    const T* b_data = elements<T>(bias);
    const T* residual_data = residual ? elements<T>(*residual) : nullptr;
    T* normed_data = mutable_elements<T>(normed);
    T* summed_data = summed ? mutable_elements<T>(*summed) : nullptr;
    const bool aligned =
        aligned_rows<T>(D, x_data, residual_data, w_data, b_data, normed_data, summed_data);
    launch(op, layer_norm_kernel<T>, ceil_div(rows, kWarpsPerBlock), kWarpsPerBlock * kWarp, 0,
           x_data, residual_data, w_data, b_data, static_cast<float>(eps), rows, D, aligned,
           normed_data, summed_data);
  });
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  Tensor normed = torch::stable::empty_like(x);
  run("layer_norm", x, nullptr, weight, bias, eps, normed, nullptr);
  return normed;
}

std::tuple<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& residual,
                                          const Tensor& weight, const Tensor& bias, double eps) {
  STD_TORCH_CHECK(residual.numel() == x.numel(),
                  "coldpress::add_layer_norm: residual must have the shape of x");
  check_like(residual, x, "add_layer_norm: residual");
  Tensor normed = torch::stable::empty_like(x);
  Tensor summed = torch::stable::empty_like(x);
  run("add_layer_norm", x, &residual, weight, bias, eps, normed, &summed);
  return {normed, summed};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) {
  m.impl("layer_norm", TORCH_BOX(&layer_norm));
  m.impl("add_layer_norm", TORCH_BOX(&add_layer_norm));
}

}  // namespace coldpress
