// rope_ on CUDA: rotary position embedding in place, float32, float16 or bfloat16, angles in
// float32.
//
// Bound by memory: every value is read and written once. One block owns a token; a thread takes a
// pack of the first half of a head and the pack that it is paired with in the second half, so both
// are loaded and stored as sixteen bytes. The angles of a token are read by all heads and stay in
// L1. Gain: not yet measured.
#include "cuda/common.cuh"

namespace coldpress {
namespace {

constexpr int kThreads = 128;

// x: (T, H, 2 * half) with `stride` values from token to token; cosines, sines: (T, half).
template <class T>
__global__ void rope_kernel(T* x, int64_t stride, int64_t H, int64_t half, const float* cosines,
                            const float* sines, bool aligned) {
  using P = Pack<T>;
  T* token = x + int64_t{blockIdx.x} * stride;
  const float* c = cosines + int64_t{blockIdx.x} * half;
  const float* s = sines + int64_t{blockIdx.x} * half;
  const int64_t packs = (half + P::kSize - 1) / P::kSize;
  for (int64_t i = threadIdx.x; i < H * packs; i += kThreads) {
    T* head = token + i / packs * 2 * half;
    const int64_t d = i % packs * P::kSize;
    P first = P::load(head, d, half, aligned), second = P::load(head + half, d, half, aligned);
    P::each(half - d, [&](int j) {
      const float a = to_float(first.values[j]), b = to_float(second.values[j]);
      const float cosine = c[d + j], sine = s[d + j];
      first.values[j] = from_float<T>(a * cosine - b * sine);
      second.values[j] = from_float<T>(b * cosine + a * sine);
    });
    first.store(head, d, half, aligned);
    second.store(head + half, d, half, aligned);
  }
}

void rope(Tensor x, const Tensor& cosines, const Tensor& sines) {
  STD_TORCH_CHECK(
      x.dim() == 3 && x.is_cuda() && x.stride(2) == 1 && x.stride(1) == x.size(2) &&
          x.size(2) % 2 == 0,
      "coldpress::rope_: expected x (T, H, D) on a GPU, heads and an even D contiguous");
  const int64_t T = x.size(0), half = x.size(2) / 2;
  for (const Tensor* t : {&cosines, &sines}) {
    STD_TORCH_CHECK(t->scalar_type() == ScalarType::Float && t->is_cuda() && t->is_contiguous() &&
                        t->get_device_index() == x.get_device_index() && t->numel() == T * half,
                    "coldpress::rope_: cosines and sines must be contiguous float32 (T, D / 2) on "
                    "the device of x");
  }
  const Launch launch(x);
  dispatch_floating(x.scalar_type(), "rope_", [&](auto type) {
    using E = decltype(type);
    E* data = mutable_elements<E>(x);
    const bool aligned = aligned_rows<E>(half, data) && x.stride(0) % Pack<E>::kSize == 0;
    launch("rope_", rope_kernel<E>, x.size(1) > 0 && half > 0 ? T : 0, kThreads, 0, data,
           x.stride(0), x.size(1), half, elements<float>(cosines), elements<float>(sines), aligned);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) { m.impl("rope_", TORCH_BOX(&rope)); }

}  // namespace coldpress
