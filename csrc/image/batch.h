// A batch of JPEG files to resized and cropped RGB images, one image per thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

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

// What a thread carries from image to image.
struct Worker {
  Workspace workspace;
  Times times;
};

// Calls work(i, worker) for every i < count on at most `threads` threads, the calling one among
// them, and returns where their time went. `work` must not throw.
Times parallel_for(int64_t count, int threads, const std::function<void(int64_t, Worker&)>& work);

// Decodes, resizes and crops one file into the memory that `allocate(size)` returns for its output.
// Returns "" or why the file is not for the native decoder; the memory then holds anything.
std::string load_jpeg(Bytes file, const Transform& transform, int64_t max_pixels,
                      const std::function<uint8_t*(Size)>& allocate, Worker& worker);

}  // namespace coldpress::image
