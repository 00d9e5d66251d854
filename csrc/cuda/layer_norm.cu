// layer_norm and add_layer_norm on CUDA, float32, float16 or bfloat16, accumulated in float32.
//
// Bound by memory: x (and the residual) in, one or two results out. A row stays in the registers of
// one warp, see norm.cuh. Rows that are wider, or no whole packs, are read three times, the second
// and third time from L1; each lane adds the same values in the same order there.
// Gain: not yet measured.
#include "cuda/norm.cuh"

namespace coldpress {
namespace {

// x, residual, normed, summed: (rows, D); weight, bias: (D). residual and summed may be null
// together.
template <class T>
struct Rows {
  const T* x;
  const T* residual;
  const T* weight;
  const T* bias;
  float eps;
  int64_t rows, D;
  bool aligned;
  T* normed;
  T* summed;
};

template <class T, int kPacks>
__global__ void layer_norm_kernel(Rows<T> r) {
  const int64_t row = int64_t{blockIdx.x} * kNormWarps + threadIdx.x / kWarp;
  if (row >= r.rows) return;
  const int64_t at = row * r.D;
  WarpRow<T, kPacks> values;
  values.load(r.x + at, r.D);
  if (r.residual != nullptr) {
    values.add(r.residual + at, r.D);
    values.round(r.D);
    values.store(r.summed + at, nullptr, r.D);
  }
  values.normalize(r.weight, r.bias, r.eps, r.D);
  values.store(r.normed + at, nullptr, r.D);
}

template <class T>
__global__ void any_layer_norm_kernel(Rows<T> r) {
  using P = Pack<T>;
  const int64_t row = int64_t{blockIdx.x} * kNormWarps + threadIdx.x / kWarp, D = r.D;
  if (row >= r.rows) return;
  const int64_t first = threadIdx.x % kWarp * P::kSize, step = kWarp * P::kSize, at = row * D;
  const T* values = r.x + at;
  float sum = 0.0f;
  for (int64_t d = first; d < D; d += step) {
    P pack = P::load(values, d, D, r.aligned);
    if (r.residual != nullptr) {
      const P other = P::load(r.residual + at, d, D, r.aligned);
      P::each(D - d, [&](int i) {
        pack.values[i] = from_float<T>(to_float(pack.values[i]) + to_float(other.values[i]));
      });
      pack.store(r.summed + at, d, D, r.aligned);
    }
    P::each(D - d, [&](int i) { sum += to_float(pack.values[i]); });
  }
  // Each thread reads back only what it wrote itself: no fence is needed.
  if (r.residual != nullptr) values = r.summed + at;
  const float mean = warp_sum(sum) / static_cast<float>(D);
  float squares = 0.0f;
  for (int64_t d = first; d < D; d += step) {
    const P pack = P::load(values, d, D, r.aligned);
    P::each(D - d, [&](int i) {
      const float deviation = to_float(pack.values[i]) - mean;
      squares += deviation * deviation;
    });
  }
  const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(D) + r.eps);
  for (int64_t d = first; d < D; d += step) {
    P pack = P::load(values, d, D, r.aligned);
    const P w = P::load(r.weight, d, D, r.aligned), b = P::load(r.bias, d, D, r.aligned);
    P::each(D - d, [&](int i) {
      const float value = (to_float(pack.values[i]) - mean) * scale;
      pack.values[i] = from_float<T>(value * to_float(w.values[i]) + to_float(b.values[i]));
    });
    pack.store(r.normed + at, d, D, r.aligned);
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
    Rows<T> r{.x = elements<T>(x),
              .residual = residual ? elements<T>(*residual) : nullptr,
              .weight = elements<T>(weight),
              .bias = elements<T>(bias),
              .eps = static_cast<float>(eps),
              .rows = rows,
              .D = D,
              .aligned = false,
              .normed = mutable_elements<T>(normed),
              .summed = summed ? mutable_elements<T>(*summed) : nullptr};
    r.aligned = aligned_rows<T>(D, r.x, r.residual, r.weight, r.bias, r.normed, r.summed);
    const int64_t blocks = ceil_div(rows, kNormWarps);
    constexpr int kThreads = kNormWarps * kWarp;
    if (!r.aligned || D > most_width<T>()) {
      return launch(op, any_layer_norm_kernel<T>, blocks, kThreads, 0, r);
    }
    dispatch_packs<T>(D, op, [&](auto packs) {
      launch(op, layer_norm_kernel<T, decltype(packs)::value>, blocks, kThreads, 0, r);
    });
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
