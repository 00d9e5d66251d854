#include "image/batch.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "image/jpeg.h"
#include "image/resample.h"

namespace coldpress::image {
namespace {

// Rows decoded between two calls of the resampler: as many as its kernels take at a time.
constexpr int64_t kChunkRows = 16;

// Adds the time between its calls to one step or another: 25 ns a call.
class Stopwatch {
 public:
  void to(std::chrono::nanoseconds& step) {
    const auto now = std::chrono::steady_clock::now();
    step += now - last_;
    last_ = now;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Only the pixels that the resampler looks at are decoded: two thirds on photos cropped to 224 x
// 224. Of every other row the codes are read, because a damaged file is to fail wherever its damage
// is.
void decode(JpegReader& reader, Resampler& resampler, Worker& worker, Stopwatch& watch) {
  const int64_t height = reader.size().height;
  reader.start(resampler.column_begin(), resampler.column_end());
  const int64_t stride = reader.columns() * kChannels;
  uint8_t* rows = room(worker.workspace.rows, kChunkRows * stride);
  const uint8_t* wanted = rows + (resampler.column_begin() - reader.column_begin()) * kChannels;
  reader.skip(resampler.row_begin());
  watch.to(worker.times.decode);
  for (int64_t row = resampler.row_begin(); row < resampler.row_end(); row += kChunkRows) {
    const int64_t count = std::min(kChunkRows, resampler.row_end() - row);
    reader.read(rows, stride, count);
    watch.to(worker.times.decode);
    resampler.push(wanted, stride, count);
    watch.to(worker.times.resize);
  }
  if (resampler.row_end() < height) {
    reader.skip(height - 1 - resampler.row_end());
    reader.read(rows, stride, 1);
  }
  reader.finish();
  watch.to(worker.times.decode);
  resampler.finish();
  watch.to(worker.times.resize);
}

}  // namespace

std::string load_jpeg(Bytes file, const Transform& transform, int64_t max_pixels,
                      const std::function<uint8_t*(Size)>& allocate, Worker& worker) {
  try {
    Stopwatch watch;
    JpegReader reader(file);
    const Size size = reader.size(), resized = transform.resized(size);
    if (size.area() > max_pixels || resized.area() > max_pixels) return "too large";
    uint8_t* target = allocate(transform.output(size));
    if (transform.fast_decode) reader.shrink(resized);
    watch.to(worker.times.decode);
    Resampler resampler(reader.size(), resized, transform, target, worker.workspace);
    watch.to(worker.times.resize);
    decode(reader, resampler, worker, watch);
    return "";
  } catch (const std::exception& error) {  // NotNative, or no memory
    return error.what();
  }
}

Times parallel_for(int64_t count, int threads, const std::function<void(int64_t, Worker&)>& work) {
  std::atomic<int64_t> next{0};
  std::vector<Times> times(std::max<int64_t>(std::min<int64_t>(threads, count), 1));
  const auto drain = [&](Times& spent) {
    Worker worker;
    for (int64_t i = next++; i < count; i = next++) work(i, worker);
    spent = worker.times;
  };
  {
    std::vector<std::jthread> helpers;  // joined when it goes out of scope
    try {
      for (size_t i = 1; i < times.size(); ++i) helpers.emplace_back(drain, std::ref(times[i]));
    } catch (const std::system_error&) {
      // The system refuses more threads: those that exist do the work.
    }
    drain(times[0]);
  }
  Times total;
  for (const Times& spent : times) total += spent;
  return total;
}

}  // namespace coldpress::image
