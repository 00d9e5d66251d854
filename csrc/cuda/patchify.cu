// patchify on CUDA: uint8 RGB images to rows of normalised patches in float32, float16 or bfloat16.
//
// Bound by memory, and there by the writes: two or four bytes out for one in. One block owns a
// patch. A thread takes as many pixels of a line as make sixteen bytes of one channel, and writes
// three such packs; neighbouring threads write neighbouring packs. Patches whose side is no
// multiple of a pack (14) go value by value. The bytes of a patch, read with stride 3, stay in L1.
// Gain: not yet measured.
#include "cuda/common.cuh"

namespace coldpress {
namespace {

constexpr int kThreads = 128;

// images: (B, height, width, 3); scale, shift: (3); out: (B * rows * columns, 3 * patch * patch)
// with rows x columns patches an image, one patch a block.
template <class T, int kRun>
__global__ void patchify_kernel(const uint8_t* images, int64_t height, int64_t width, int patch,
                                const T* scale, const T* shift, T* out) {
  const int64_t columns = width / patch, rows = height / patch;
  const int64_t column = blockIdx.x % columns, row = blockIdx.x / columns % rows;
  const int64_t image = blockIdx.x / (columns * rows);
  const uint8_t* corner = images + ((image * height + row * patch) * width + column * patch) * 3;
  const int area = patch * patch;
  T* target = out + int64_t{blockIdx.x} * 3 * area;
  float factor[3], offset[3];
  for (int c = 0; c < 3; ++c) {
    factor[c] = to_float(scale[c]);
    offset[c] = to_float(shift[c]);
  }
  for (int i = threadIdx.x * kRun; i < area; i += kThreads * kRun) {
    const uint8_t* pixels = corner + (i / patch * width + i % patch) * 3;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      alignas(16) T run[kRun];
#pragma unroll
      for (int j = 0; j < kRun; ++j) {
        run[j] = from_float<T>(fmaf(static_cast<float>(pixels[j * 3 + c]), factor[c], offset[c]));
      }
      T* place = target + c * area + i;
      if constexpr (kRun > 1) {
        *reinterpret_cast<uint4*>(place) = *reinterpret_cast<const uint4*>(run);
      } else {
        *place = run[0];
      }
    }
  }
}

Tensor patchify(const Tensor& images, int64_t patch, const Tensor& scale, const Tensor& shift) {
  STD_TORCH_CHECK(images.scalar_type() == ScalarType::Byte && images.dim() == 4 &&
                      images.size(3) == 3 && patch > 0 && patch <= 4096 &&
                      images.size(1) % patch == 0 && images.size(2) % patch == 0 &&
                      scale.numel() == 3 && shift.numel() == 3,
                  "coldpress::patchify: expected images (B, H, W, 3) uint8, H and W multiples of "
                  "patch, and three values each in scale and shift");
  check_like(images, images, "patchify: images");
  for (const Tensor* t : {&scale, &shift}) {
    STD_TORCH_CHECK(
        t->scalar_type() == scale.scalar_type() && t->is_cuda() && t->is_contiguous() &&
            t->get_device_index() == images.get_device_index(),
        "coldpress::patchify: scale and shift must be contiguous vectors of one dtype on the "
        "device of the images");
  }
  const int64_t B = images.size(0), height = images.size(1), width = images.size(2);
  const int64_t patches = B * (height / patch) * (width / patch);
  Tensor out = torch::stable::new_empty(images, {patches, 3 * patch * patch}, scale.scalar_type());
  const Launch launch(images);
  dispatch_floating(scale.scalar_type(), "patchify", [&](auto type) {
    using T = decltype(type);
    const bool packs = patch % Pack<T>::kSize == 0;
    launch("patchify", packs ? patchify_kernel<T, Pack<T>::kSize> : patchify_kernel<T, 1>, patches,
           kThreads, 0, elements<uint8_t>(images), height, width, static_cast<int>(patch),
           elements<T>(scale), elements<T>(shift), mutable_elements<T>(out));
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) { m.impl("patchify", TORCH_BOX(&patchify)); }

}  // namespace coldpress
