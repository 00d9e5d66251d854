// A batch of JPEG files to resized and cropped RGB images, one image per thread at a time. Several
// networks that want the same image each in their own way share the decoding.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "image/resample.h"
#include "image/transform.h"

namespace coldpress::image {

using Bytes = std::span<const uint8_t>;

// Busy time by step.
struct Times {
  std::chrono::nanoseconds decode{0}, resize{0};
  Times& operator+=(const Times& other) {
    decode += other.decode;
    resize += other.resize;
    return *this;
  }
};

// What a thread carries from image to image: memory for the decoder and for each resampler.
struct Worker {
  std::vector<uint8_t> rows;
  std::deque<Workspace> workspaces;
  Times times;
};

// Calls work(i, worker) for every i < count on at most `threads` threads, the calling one among
// them, and returns where their time went. `work` must not throw.
Times parallel_for(int64_t count, int threads, const std::function<void(int64_t, Worker&)>& work);

// Decodes one file, and resizes and crops it in each of the ways, into the memory that
// `allocate(way, size)` returns for the output. Returns "" or why the file is not for the native
// decoder; the memory then holds anything. Only a single way may ask for fast decoding.
std::string load_jpeg(Bytes file, std::span<const Transform> ways, int64_t max_pixels,
                      const std::function<uint8_t*(size_t, Size)>& allocate, Worker& worker);

}  // namespace coldpress::image
