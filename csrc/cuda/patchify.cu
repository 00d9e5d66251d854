// patchify on CUDA: uint8 RGB images to float32 rows of normalised patches.
//
// Bound by memory, and there by the writes: four bytes out for one in. One block owns a patch and
// walks its row of features in order, so the writes coalesce; the bytes of a patch, read once a
// channel with stride 3, are in L1 after the first channel. Never measured yet.
#include "cuda/common.cuh"

namespace coldpress {
namespace {

constexpr int kThreads = 256;

// images: (B, height, width, 3); scale, shift: (3); out: (B * rows * columns, 3 * patch * patch)
// with rows x columns patches an image, one patch a block.
__global__ void patchify_kernel(const uint8_t* images, int64_t height, int64_t width, int patch,
                                const float* scale, const float* shift, float* out) {
  const int64_t columns = width / patch, rows = height / patch;
  const int64_t column = blockIdx.x % columns, row = blockIdx.x / columns % rows;
  const int64_t image = blockIdx.x / (columns * rows);
  const uint8_t* corner = images + ((image * height + row * patch) * width + column * patch) * 3;
  const int area = patch * patch;
  for (int i = threadIdx.x; i < 3 * area; i += kThreads) {
    const int c = i / area, y = i % area / patch, x = i % patch;
    const float pixel = corner[(y * width + x) * 3 + c];
    out[int64_t{blockIdx.x} * 3 * area + i] = fmaf(pixel, scale[c], shift[c]);
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
        t->scalar_type() == ScalarType::Float && t->is_cuda() && t->is_contiguous() &&
            t->get_device_index() == images.get_device_index(),
        "coldpress::patchify: scale and shift must be contiguous float32 vectors on the "
        "device of the images");
  }
  const int64_t B = images.size(0), height = images.size(1), width = images.size(2);
  const int64_t patches = B * (height / patch) * (width / patch);
  Tensor out = torch::stable::new_empty(images, {patches, 3 * patch * patch}, ScalarType::Float);
  const Launch launch(images);
  launch("patchify", patchify_kernel, patches, kThreads, 0, elements<uint8_t>(images), height,
         width, static_cast<int>(patch), elements<float>(scale), elements<float>(shift),
         mutable_elements<float>(out));
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) { m.impl("patchify", TORCH_BOX(&patchify)); }

}  // namespace coldpress
