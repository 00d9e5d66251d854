// Resizing and centre-cropping 8-bit RGB with bytes equal to Pillow's `Image.resize`, only where
// the crop keeps them. Rows are pushed top to bottom, so the decoded image never has to exist as a
// whole.
#pragma once

#include <cstdint>
#include <vector>

#include "image/filters.h"
#include "image/transform.h"

namespace coldpress::image {

// Memory that the images of one thread use one after the other: allocated for each anew, it would
// be mapped, cleared and unmapped by the system each time (3 % of the whole on photos).
struct Workspace {
  std::vector<uint8_t> stage, shortened;
  std::vector<uint64_t> scratch;
};

// At least `size` elements of a workspace's memory.
template <typename T>
T* room(std::vector<T>& memory, int64_t size) {
  if (static_cast<int64_t>(memory.size()) < size) memory.resize(size);
  return memory.data();
}

// The intermediate result is rounded to bytes, so the order of the passes shows. Pillow 13 shrinks
// much taller images vertically first (older versions never did); this is its rule, found by
// experiment.
bool vertical_pass_first(const Axis& y, const Axis& x);

class Resampler {
 public:
  // Resizes `input` to `resized` and crops that. `target` receives the crop, or all of it; it and
  // the workspace must outlive the resampler.
  Resampler(Size input, Size resized, const Transform& transform, uint8_t* target,
            Workspace& workspace);

  // Source rows and columns that matter: the others are never looked at and may hold anything.
  int64_t row_begin() const { return row_begin_; }
  int64_t row_end() const { return row_end_; }
  int64_t column_begin() const { return column_begin_; }
  int64_t column_end() const { return column_end_; }

  // The next `count` source rows, in order from row_begin(), `stride` bytes apart, each from
  // column_begin() on.
  void push(const uint8_t* rows, int64_t stride, int64_t count);

  // Writes what only the last row completes. Call once, after row_end() was reached.
  void finish();

 private:
  void plan_nearest();
  void plan_passes(Filter filter);
  void push_nearest(const uint8_t* rows, int64_t stride, int64_t count);
  void narrow(const uint8_t* source, int64_t stride, int64_t count, uint8_t* target,
              int64_t target_stride);
  void shorten(uint8_t* target, int64_t target_stride) const;
  uint8_t* target_row(int64_t y) const {
    return target_ + ((y_.pad + y) * x_.output + x_.pad) * kChannels;
  }

  Axis y_;
  Axis x_;
  uint8_t* target_;
  Workspace& workspace_;
  int64_t row_begin_ = 0, row_end_ = 0, column_begin_ = 0, column_end_ = 0;
  int64_t next_row_ = 0;
  bool nearest_;
  // Nearest filter: the source position of every kept output position.
  std::vector<int32_t> nearest_rows_, nearest_columns_;
  // Other filters: empty where that pass is not needed.
  Coefficients horizontal_, vertical_;
  bool vertical_first_ = false;
  // Source rows [row_begin_, row_end_) as the vertical pass reads them.
  uint8_t* stage_ = nullptr;
  int64_t stage_stride_ = 0;
};

}  // namespace coldpress::image
