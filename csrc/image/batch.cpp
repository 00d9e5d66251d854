#include "image/batch.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "image/jpeg.h"
#include "image/resample.h"

namespace coldpress::image {
namespace {

// Rows decoded between two calls of the resampler: enough to amortise its set-up, few enough for
// the L2 cache.
constexpr int64_t kChunkRows = 16;

// Whole rows are decoded though the crop drops some columns: libjpeg-turbo's partial decoding
// gained only 3 % on photos cropped to 224 x 224, the entropy decoder being most of the work.
void decode(JpegReader& reader, Resampler& resampler) {
  const Size size = reader.size();
  const int64_t stride = size.width * kChannels;
  const auto rows = std::make_unique_for_overwrite<uint8_t[]>(kChunkRows * stride);
  for (int64_t row = 0; row < size.height;) {
    const int64_t count = std::min(kChunkRows, size.height - row);
    reader.read(rows.get(), stride, count);
    const int64_t begin = std::max(row, resampler.row_begin());
    const int64_t end = std::min(row + count, resampler.row_end());
    if (begin < end) resampler.push(rows.get() + (begin - row) * stride, stride, end - begin);
    row += count;
  }
  reader.finish();
  resampler.finish();
}

}  // namespace

std::string load_jpeg(Bytes file, const Transform& transform, int64_t max_pixels,
                      const std::function<uint8_t*(Size)>& allocate) {
  try {
    JpegReader reader(file);
    const Size size = reader.size();
    if (size.area() > max_pixels || transform.resized(size).area() > max_pixels) return "too large";
    reader.start();
    Resampler resampler(size, transform, allocate(transform.output(size)));
    decode(reader, resampler);
    return "";
  } catch (const std::exception& error) {  // NotNative, or no memory
    return error.what();
  }
}

void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next{0};
  const auto drain = [&] {
    for (int64_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> helpers;  // joined when it goes out of scope
  try {
    for (int64_t i = 1; i < std::min<int64_t>(threads, count); ++i) helpers.emplace_back(drain);
  } catch (const std::system_error&) {
    // The system refuses more threads: those that exist do the work.
  }
  drain();
}

}  // namespace coldpress::image
