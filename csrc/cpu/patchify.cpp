// patchify: uint8 RGB images to rows of normalised patches, ready for the patch-embedding product.
//
// Bound by memory: one byte is read and one float written per value. The mean and the deviation are
// folded into one multiply-add, value = pixel * scale[c] + shift[c].
#include "core/kernel.h"

namespace coldpress {

// One row of patches: `image` points at its first pixel; out is (width / patch, 3 * patch * patch),
// a patch laid out channel, row, column as convolution weights are.
COLDPRESS_KERNEL(patchify_row, const uint8_t* image, int64_t width, int64_t patch,
                 const float* scale, const float* shift, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void patchify_row(const uint8_t* image, int64_t width, int64_t patch, const float* scale,
                  const float* shift, float* out) {
  const int64_t area = patch * patch;
  for (int64_t y = 0; y < patch; ++y) {
    for (int64_t p = 0; p < width / patch; ++p) {
      const uint8_t* pixels = image + (y * width + p * patch) * 3;
      float* target = out + p * 3 * area + y * patch;
      for (int64_t c = 0; c < 3; ++c) {
        for (int64_t x = 0; x < patch; x += kLanes) {
          uint8_t channel[kLanes] = {};
          const int64_t count = patch - x < kLanes ? patch - x : kLanes;
          for (int64_t i = 0; i < count; ++i) channel[i] = pixels[(x + i) * 3 + c];
          const Vec value = fma(Vec::load(channel), Vec::set(scale[c]), Vec::set(shift[c]));
          store_first(value, target + c * area + x, count);
        }
      }
    }
  }
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch.h"

namespace coldpress {
namespace {

Tensor patchify(const Tensor& images, int64_t patch, const Tensor& scale, const Tensor& shift) {
  const int64_t B = images.size(0), height = images.size(1), width = images.size(2);
  STD_TORCH_CHECK(
      images.scalar_type() == ScalarType::Byte && images.is_contiguous() && images.is_cpu() &&
          images.dim() == 4 && images.size(3) == 3 && patch > 0 && height % patch == 0 &&
          width % patch == 0 && scale.numel() == 3 && shift.numel() == 3,
      "coldpress::patchify: expected contiguous images (B, H, W, 3) uint8 on the CPU, H and "
      "W multiples of patch, and three values each in scale and shift");
  const int64_t rows = height / patch, features = 3 * patch * patch;
  Tensor out =
      torch::stable::new_empty(images, {B * rows * (width / patch), features}, ScalarType::Float);
  const auto* pixels = static_cast<const uint8_t*>(images.const_data_ptr());
  const float* scale_data = packed_floats(scale, "patchify: scale");
  const float* shift_data = packed_floats(shift, "patchify: shift");
  float* out_data = out_floats(out);
  const auto kernel = COLDPRESS_SELECT(patchify_row);
  for_each_task(B * rows, [&](int64_t row) {
    kernel(pixels + row * patch * width * 3, width, patch, scale_data, shift_data,
           out_data + row * (width / patch) * features);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("patchify", TORCH_BOX(&patchify)); }

}  // namespace coldpress
#endif
