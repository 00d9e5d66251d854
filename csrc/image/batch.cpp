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

// Hands a resampler what it wants of the `count` rows from `row` on; the first column is `column`.
void push(Resampler& resampler, const uint8_t* rows, int64_t stride, int64_t row, int64_t count,
          int64_t column) {
  const int64_t begin = std::max(row, resampler.row_begin());
  const int64_t end = std::min(row + count, resampler.row_end());
  if (begin >= end) return;
  const int64_t skipped = (resampler.column_begin() - column) * kChannels;
  resampler.push(rows + (begin - row) * stride + skipped, stride, end - begin);
}

// Only the pixels that a resampler looks at are decoded: two thirds on photos cropped to 224 x 224.
// Of every other row the codes are read, because a damaged file is to fail wherever its damage is.
void decode(JpegReader& reader, std::deque<Resampler>& resamplers, Worker& worker,
            Stopwatch& watch) {
  const int64_t height = reader.size().height;
  int64_t row_begin = height, row_end = 0, column_begin = reader.size().width, column_end = 0;
  for (const auto& way : resamplers) {
    row_begin = std::min(row_begin, way.row_begin());
    row_end = std::max(row_end, way.row_end());
    column_begin = std::min(column_begin, way.column_begin());
    column_end = std::max(column_end, way.column_end());
  }
  reader.start(column_begin, column_end);
  const int64_t stride = reader.columns() * kChannels;
  uint8_t* rows = room(worker.rows, kChunkRows * stride);
  reader.skip(row_begin);
  watch.to(worker.times.decode);
  for (int64_t row = row_begin; row < row_end; row += kChunkRows) {
    const int64_t count = std::min(kChunkRows, row_end - row);
    reader.read(rows, stride, count);
    watch.to(worker.times.decode);
    for (auto& way : resamplers) push(way, rows, stride, row, count, reader.column_begin());
    watch.to(worker.times.resize);
  }
  if (row_end < height) {
    reader.skip(height - 1 - row_end);
    reader.read(rows, stride, 1);
  }
  reader.finish();
  watch.to(worker.times.decode);
  for (auto& way : resamplers) way.finish();
  watch.to(worker.times.resize);
}

}  // namespace

std::string load_jpeg(Bytes file, std::span<const Transform> ways, int64_t max_pixels,
                      const std::function<uint8_t*(size_t, Size)>& allocate, Worker& worker) {
  try {
    Stopwatch watch;
    JpegReader reader(file);
    const Size size = reader.size();
    const auto too_large = [&](Size one) { return one.area() > max_pixels; };
    if (too_large(size) || std::ranges::any_of(ways, too_large, [&](const Transform& way) {
          return way.resized(size);
        })) {
      return "too large";
    }
    if (ways[0].fast_decode) reader.shrink(ways[0].resized(size));
    watch.to(worker.times.decode);
    if (worker.workspaces.size() < ways.size()) worker.workspaces.resize(ways.size());
    std::deque<Resampler> resamplers;
    for (size_t i = 0; i < ways.size(); ++i) {
      uint8_t* target = allocate(i, ways[i].output(size));
      resamplers.emplace_back(reader.size(), ways[i].resized(size), ways[i], target,
                              worker.workspaces[i]);
    }
    watch.to(worker.times.resize);
    decode(reader, resamplers, worker, watch);
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
