// Any bytes as a JPEG file, through the native image path (see run.py).
//
// Beside what the sanitizers find, two properties are checked. A crop gives the same pixels, and
// declines the same files, whether only the crop is decoded or the whole image is. And what is not
// declined, libjpeg alone decodes to the same pixels without a warning.
#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/isa.h"
#include "image/batch.h"
#include "image/jpeg_scan.h"

namespace {

using namespace coldpress::image;

constexpr int64_t kMaxPixels = 1 << 16;
constexpr size_t kHeader = 5;  // filter and ISA level, edge, crop height, crop width, flags

struct Image {
  std::vector<uint8_t> pixels;
  Size size{0, 0};
  std::string declined;
};

Image load(Bytes file, const Transform& transform) {
  Image image;
  Worker worker;
  const auto allocate = [&](size_t, Size size) {
    image.size = size;
    image.pixels.resize(size.area() * kChannels);
    return image.pixels.data();
  };
  image.declined = load_jpeg(file, {&transform, 1}, kMaxPixels, allocate, worker);
  return image;
}

bool is_crop_of(const Image& crop, const Image& whole) {
  const Axis y = centre(whole.size.height, whole.size.height, crop.size.height);
  const Axis x = centre(whole.size.width, whole.size.width, crop.size.width);
  for (int64_t row = 0; row < y.kept(); ++row) {
    const auto at = [&](const Image& image, int64_t i, int64_t j) {
      return image.pixels.begin() + (i * image.size.width + j) * kChannels;
    };
    const auto expected = at(whole, y.begin + row, x.begin);
    if (!std::equal(expected, expected + x.kept() * kChannels, at(crop, y.pad + row, x.pad))) {
      return false;
    }
  }
  return true;
}

struct Trap {
  jpeg_error_mgr errors;
  std::jmp_buf jump;
};

// Whether libjpeg, left to itself, decodes the file to these pixels without a warning.
bool libjpeg_agrees(Bytes file, const Image& image) {
  Trap trap;
  jpeg_decompress_struct decoder;
  decoder.err = jpeg_std_error(&trap.errors);
  decoder.client_data = &trap;
  trap.errors.output_message = [](j_common_ptr) {};
  trap.errors.error_exit = [](j_common_ptr broken) {
    std::longjmp(static_cast<Trap*>(broken->client_data)->jump, 1);
  };
  jpeg_create_decompress(&decoder);
  std::vector<uint8_t> row(image.size.width * kChannels);
  volatile bool agrees = false;
  if (setjmp(trap.jump) == 0) {
    jpeg_mem_src(&decoder, file.data(), file.size());
    jpeg_read_header(&decoder, TRUE);
    decoder.out_color_space = JCS_RGB;
    jpeg_start_decompress(&decoder);
    bool equal = decoder.output_height == image.size.height;
    for (auto at = image.pixels.begin(); at != image.pixels.end(); at += row.size()) {
      JSAMPROW target = row.data();
      jpeg_read_scanlines(&decoder, &target, 1);
      equal = equal && std::equal(row.begin(), row.end(), at);
    }
    jpeg_finish_decompress(&decoder);
    agrees = equal && trap.errors.num_warnings == 0;
  }
  jpeg_destroy_decompress(&decoder);
  return agrees;
}

Transform transform_of(const uint8_t* header) {
  Transform transform;
  transform.filter = static_cast<Filter>(header[0] % 6);
  if (header[4] & 1) {
    transform.exact = Size{header[1] % 96 + 1, header[2] % 96 + 1};
  } else if (header[4] & 2) {
    transform.shortest_edge = header[1] % 96 + 1;
  }
  transform.fast_decode = header[4] & 4;
  return transform;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kHeader) return -1;
  static constexpr const char* kLevels[] = {"scalar", "avx2", "avx512"};
  coldpress_set_isa(kLevels[data[0] / 6 % 3]);  // one that cannot run here changes nothing
  const Bytes file(data + kHeader, size - kHeader);
  Transform transform = transform_of(data);
  if (const Image plain = load(file, {}); plain.declined.empty()) {
    if (!libjpeg_agrees(file, plain)) std::abort();
  }
  const Image whole = load(file, transform);
  transform.crop = Size{data[2] % 64 + 1, data[3] % 64 + 1};
  const Image crop = load(file, transform);
  if (crop.declined != whole.declined) std::abort();
  if (whole.declined.empty() && !is_crop_of(crop, whole)) std::abort();
  return 0;
}
