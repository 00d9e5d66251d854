// Any bytes as a JPEG file, through the native image path (see run.py).
//
// Beside what the sanitizers find, three properties are checked. A crop gives the same pixels, and
// declines the same files, whether only the crop is decoded or the whole image is. Both from one
// decoding are what they are alone. And what is not declined, libjpeg alone decodes to the same
// pixels without a warning.
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
  bool operator==(const Image&) const = default;
};

// One decoding of the file, an image for each of the ways.
std::vector<Image> load(Bytes file, const std::vector<Transform>& ways) {
  std::vector<Image> images(ways.size());
  Worker worker;
  const auto allocate = [&](size_t way, Size size) {
    images[way].size = size;
    images[way].pixels.resize(size.area() * kChannels);
    return images[way].pixels.data();
  };
  const std::string declined = load_jpeg(file, ways, kMaxPixels, allocate, worker);
  for (Image& image : images) {
    if (!declined.empty()) image = {};  // what was written holds anything
    image.declined = declined;
  }
  return images;
}

bool is_crop_of(const Image& crop, const Image& whole, bool half_to_even) {
  const Size from = whole.size;
  const Axis y = centre(from.height, from.height, crop.size.height, half_to_even);
  const Axis x = centre(from.width, from.width, crop.size.width, half_to_even);
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
  transform.half_to_even = header[4] & 8;
  return transform;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kHeader) return -1;
  static constexpr const char* kLevels[] = {"scalar", "avx2", "avx512", "avx512-vnni"};
  coldpress_set_isa(kLevels[data[0] / 6 % 4]);  // one that cannot run here changes nothing
  const Bytes file(data + kHeader, size - kHeader);
  if (const Image plain = load(file, {Transform{}})[0]; plain.declined.empty()) {
    if (!libjpeg_agrees(file, plain)) std::abort();
  }
  const Transform transform = transform_of(data);
  Transform cropped = transform;
  cropped.crop = Size{data[2] % 64 + 1, data[3] % 64 + 1};
  const Image whole = load(file, {transform})[0], crop = load(file, {cropped})[0];
  if (crop.declined != whole.declined) std::abort();
  if (whole.declined.empty() && !is_crop_of(crop, whole, transform.half_to_even)) std::abort();
  if (transform.fast_decode) return 0;  // only for a single way
  if (load(file, {transform, cropped}) != std::vector{whole, crop}) std::abort();
  return 0;
}
