// token_places on CUDA: which token the sequence of each packed token begins with, and how far
// behind that it stands.
//
// Bound by latency: a few hundred kilobytes in all. One thread a token looks its sequence up among
// the bounds, ten steps that hit L1; in plain torch it would be five launches. Gain: not yet
// measured.
#include "cuda/common.cuh"

namespace coldpress {
namespace {

constexpr int kThreads = 256;

// ends: (B + 1); begins, places: (T). Of empty sequences none is found. Tokens behind the last
// bound are counted to the last sequence.
__global__ void token_places_kernel(const int32_t* ends, int64_t B, int64_t T, int64_t* begins,
                                    int64_t* places) {
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= T) return;
  int64_t low = 0, high = B;  // the last sequence that begins at t or before lies in [low, high)
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (ends[middle] <= t ? low : high) = middle;
  }
  begins[t] = ends[low];
  places[t] = t - ends[low];
}

std::tuple<Tensor, Tensor> token_places(const Tensor& cu_seqlens, int64_t T) {
  STD_TORCH_CHECK(cu_seqlens.is_cuda() && cu_seqlens.scalar_type() == ScalarType::Int &&
                      cu_seqlens.is_contiguous() && cu_seqlens.dim() == 1 &&
                      cu_seqlens.numel() > (T > 0 ? 1 : 0) && T >= 0,
                  "coldpress::token_places: expected a contiguous int32 vector of bounds");
  Tensor begins = torch::stable::new_empty(cu_seqlens, {T}, ScalarType::Long);
  Tensor places = torch::stable::new_empty(cu_seqlens, {T}, ScalarType::Long);
  const Launch launch(cu_seqlens);
  launch("token_places", token_places_kernel, ceil_div(T, kThreads), kThreads, 0,
         elements<int32_t>(cu_seqlens), cu_seqlens.numel() - 1, T,
         mutable_elements<int64_t>(begins), mutable_elements<int64_t>(places));
  return {begins, places};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) { m.impl("token_places", TORCH_BOX(&token_places)); }

}  // namespace coldpress
