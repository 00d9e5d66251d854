// resize_images on CUDA: a ragged batch of decoded RGB images to one size, resized and cropped to
// Pillow's own bytes. The weights are integers in fixed point that the CPU has computed (csrc/image
// /plan.cpp), sums are exact, and what lies between the two passes is rounded to bytes: no device
// can come to another result.
//
// Bound by loads that hit L1: about a dozen taps a value, of one byte each. A block owns one line
// of the result of a pass, so the lines of all images of a batch are in flight at once;
// neighbouring threads own neighbouring bytes of a line, so what they load is contiguous (vertical
// pass) or overlaps (horizontal). Only what the crop keeps is computed. Predicted 1 us an image of
// 500 x 375, against 100 us for its decoding: fusing the cut into patches would save a tenth of
// that. Gain: not yet measured.
#include "cuda/common.cuh"

namespace coldpress {
namespace {

constexpr int kThreads = 256;
constexpr int kChannels = 3;
constexpr int kWeightBits = 22;

// An image of the batch as ops/resize_images.py writes it, numbers of 64 bits. Tables have, for
// every kept position, the first source position, and behind all of those the weights.
struct Image {
  int64_t source, width;                   // bytes in front of it; pixels of a line
  int64_t y_table, y_kept, y_taps, y_pad;  // the table begins at so many integers
  int64_t x_table, x_kept, x_taps, x_pad;
  int64_t row, rows, column, columns;  // of the source, what the kept positions look at
  int64_t vertical_first, stage;       // bytes in front of it between the passes
};
static_assert(sizeof(Image) == 16 * sizeof(int64_t));

__device__ uint8_t weigh(const uint8_t* source, int64_t step, const int32_t* weights,
                         int64_t taps) {
  int32_t sum = 1 << (kWeightBits - 1);
  for (int64_t t = 0; t < taps; ++t) sum += weights[t] * source[t * step];
  return static_cast<uint8_t>(max(min(sum >> kWeightBits, 255), 0));
}

// One line of the horizontal pass: x_kept pixels from a line that begins at column `origin`.
__device__ void narrow(const Image& image, const int32_t* tables, const uint8_t* line,
                       int64_t origin, uint8_t* out) {
  const int32_t* first = tables + image.x_table;
  const int32_t* weights = first + image.x_kept;
  for (int64_t i = threadIdx.x; i < image.x_kept * kChannels; i += kThreads) {
    const int64_t x = i / kChannels, c = i % kChannels;
    out[i] = weigh(line + (first[x] - origin) * kChannels + c, kChannels,
                   weights + x * image.x_taps, image.x_taps);
  }
}

// One line of the vertical pass: `bytes` bytes from lines `stride` apart, the first is row
// `origin`.
__device__ void shorten(const Image& image, const int32_t* tables, const uint8_t* lines,
                        int64_t stride, int64_t origin, int64_t bytes, int64_t y, uint8_t* out) {
  const int64_t first = tables[image.y_table + y] - origin;
  const int32_t* weights = tables + image.y_table + image.y_kept + y * image.y_taps;
  for (int64_t i = threadIdx.x; i < bytes; i += kThreads) {
    out[i] = weigh(lines + first * stride + i, stride, weights, image.y_taps);
  }
}

// Block (line, image) makes one line of what lies between the passes.
__global__ void first_pass_kernel(const uint8_t* pixels, const Image* images, const int32_t* tables,
                                  uint8_t* stage) {
  const Image image = images[blockIdx.y];
  const int64_t line = blockIdx.x, stride = image.width * kChannels;
  if (line >= (image.vertical_first ? image.y_kept : image.rows)) return;
  const uint8_t* source = pixels + image.source + image.row * stride;
  if (image.vertical_first) {
    const int64_t bytes = image.columns * kChannels;
    shorten(image, tables, source + image.column * kChannels, stride, image.row, bytes, line,
            stage + image.stage + line * bytes);
  } else {
    narrow(image, tables, source + line * stride, 0,
           stage + image.stage + line * image.x_kept * kChannels);
  }
}

// Block (line, image) makes one line of out: (B, height, width, 3), zeros around what was kept.
__global__ void second_pass_kernel(const uint8_t* stage, const Image* images, const int32_t* tables,
                                   int64_t height, int64_t width, uint8_t* out) {
  const Image image = images[blockIdx.y];
  const int64_t y = int64_t{blockIdx.x} - image.y_pad, bytes = image.x_kept * kChannels;
  uint8_t* line = out + (blockIdx.y * height + blockIdx.x) * width * kChannels;
  const bool kept = y >= 0 && y < image.y_kept;
  const int64_t begin = image.x_pad * kChannels, end = begin + bytes;
  for (int64_t i = threadIdx.x; i < width * kChannels; i += kThreads) {
    if (!kept || i < begin || i >= end) line[i] = 0;
  }
  if (!kept) return;
  const uint8_t* source = stage + image.stage;
  if (image.vertical_first) {
    narrow(image, tables, source + y * image.columns * kChannels, image.column, line + begin);
  } else {
    shorten(image, tables, source, bytes, image.row, bytes, y, line + begin);
  }
}

Tensor resize_images(const Tensor& pixels, const Tensor& plans, const Tensor& tables,
                     int64_t stage_bytes, int64_t stage_lines, int64_t height, int64_t width) {
  check_like(pixels, pixels, "resize_images: pixels");
  STD_TORCH_CHECK(pixels.scalar_type() == ScalarType::Byte && height > 0 && width > 0 &&
                      stage_bytes >= 0 && stage_lines >= 0,
                  "coldpress::resize_images: expected uint8 pixels and a size");
  const auto on_device = [&](const Tensor& t, ScalarType type) {
    return t.scalar_type() == type && t.is_cuda() && t.is_contiguous() &&
           t.get_device_index() == pixels.get_device_index();
  };
  STD_TORCH_CHECK(on_device(plans, ScalarType::Long) && plans.dim() == 2 && plans.size(1) == 16 &&
                      plans.size(0) < 65536 && on_device(tables, ScalarType::Int),
                  "coldpress::resize_images: expected plans (B, 16) int64, B below 65536, and "
                  "tables int32, both contiguous and on the device of the pixels");
  const int64_t B = plans.size(0);
  Tensor out = torch::stable::new_empty(pixels, {B, height, width, kChannels});
  Tensor stage = torch::stable::new_empty(pixels, {stage_bytes});
  const Launch launch(pixels);
  const auto* images = reinterpret_cast<const Image*>(elements<int64_t>(plans));
  launch.grid("resize_images", first_pass_kernel, stage_lines, B, kThreads,
              elements<uint8_t>(pixels), images, elements<int32_t>(tables),
              mutable_elements<uint8_t>(stage));
  launch.grid("resize_images", second_pass_kernel, height, B, kThreads, elements<uint8_t>(stage),
              images, elements<int32_t>(tables), height, width, mutable_elements<uint8_t>(out));
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CUDA, m) {
  m.impl("resize_images", TORCH_BOX(&resize_images));
}

}  // namespace coldpress
