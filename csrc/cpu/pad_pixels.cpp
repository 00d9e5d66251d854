// pad_pixels: uint8 images to normalised float32 images with a border of zeros, for the first
// convolution of a network, which then reads whole rows of its window.
//
// Bound by memory: 1 byte read, 4 written per value. value = pixel * scale[c] + shift[c], as in
// patchify.
#include "core/kernel.h"

namespace coldpress {

// One row of `values` = 3 * width bytes; `scale` and `shift` hold three vectors (48) each.
COLDPRESS_KERNEL(normalise_row, const uint8_t* pixels, int64_t values, const float* scale,
                 const float* shift, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/simd.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {

void normalise_row(const uint8_t* pixels, int64_t values, const float* scale, const float* shift,
                   float* out) {
  int64_t phase = 0;  // 16 values are 5 pixels and a third
  for (int64_t i = 0; i < values; i += kLanes) {
    const Vec value = load_first(pixels + i, values - i);
    store_first(fma(value, Vec::load(scale + phase), Vec::load(shift + phase)), out + i,
                values - i);
    phase = phase == 2 * kLanes ? 0 : phase + kLanes;
  }
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch.h"

namespace coldpress {
namespace {

Tensor pad_pixels(const Tensor& images, const Tensor& scale, const Tensor& shift,
                  const std::vector<int64_t>& padding) {
  STD_TORCH_CHECK(
      images.scalar_type() == ScalarType::Byte && images.is_contiguous() && images.is_cpu() &&
          images.dim() == 4 && images.size(3) == 3 && scale.numel() == 3 && shift.numel() == 3 &&
          padding.size() == 4 && *std::min_element(padding.begin(), padding.end()) >= 0,
      "coldpress::pad_pixels: expected contiguous images (B, H, W, 3) uint8 on the CPU, "
      "three values each in scale and shift, and padding (top, bottom, left, right)");
  const int64_t B = images.size(0), H = images.size(1), W = images.size(2);
  const int64_t high = H + padding[0] + padding[1], wide = W + padding[2] + padding[3];
  Tensor out = torch::stable::new_empty(images, {B, high, wide, 3}, ScalarType::Float);
  const auto* pixels = static_cast<const uint8_t*>(images.const_data_ptr());
  const float* scale_data = packed_floats(scale, "pad_pixels: scale");
  const float* shift_data = packed_floats(shift, "pad_pixels: shift");
  float* out_data = out_floats(out);
  float scales[48], shifts[48];
  for (int i = 0; i < 48; ++i) {
    scales[i] = scale_data[i % 3];
    shifts[i] = shift_data[i % 3];
  }
  const auto run = COLDPRESS_SELECT(normalise_row);
  for_each_task(B * high, [&](int64_t row) {
    float* target = out_data + row * wide * 3;
    const int64_t y = row % high - padding[0];
    if (y < 0 || y >= H) return std::fill(target, target + wide * 3, 0.0f);
    std::fill(target, target + padding[2] * 3, 0.0f);
    run(pixels + (row / high * H + y) * W * 3, W * 3, scales, shifts, target + padding[2] * 3);
    std::fill(target + (padding[2] + W) * 3, target + wide * 3, 0.0f);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) { m.impl("pad_pixels", TORCH_BOX(&pad_pixels)); }

}  // namespace coldpress
#endif
