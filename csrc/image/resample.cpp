#include "image/resample.h"

#include <algorithm>
#include <cstring>

#include "image/resample_kernels.h"

namespace coldpress::image {

bool vertical_pass_first(const Axis& y, const Axis& x) {
  return y.input - y.resized > 2 * std::max<int64_t>(x.input - x.resized, 0);
}

Resampler::Resampler(Size input, Size resized, const Transform& transform, uint8_t* target,
                     Workspace& workspace)
    : target_(target), workspace_(workspace), nearest_(transform.filter == Filter::nearest) {
  const Size output = transform.crop.value_or(resized);
  y_ = centre(input.height, resized.height, output.height, transform.half_to_even);
  x_ = centre(input.width, resized.width, output.width, transform.half_to_even);
  if (y_.kept() < y_.output || x_.kept() < x_.output) {
    std::memset(target, 0, output.area() * kChannels);
  }
  if (nearest_) {
    plan_nearest();
  } else {
    plan_passes(transform.filter);
  }
  next_row_ = row_begin_;
}

void Resampler::plan_nearest() {
  nearest_rows_ = nearest_positions(y_);
  nearest_columns_ = nearest_positions(x_);
  row_begin_ = nearest_rows_.front();
  row_end_ = nearest_rows_.back() + 1;
  column_begin_ = nearest_columns_.front();
  column_end_ = nearest_columns_.back() + 1;
}

void Resampler::plan_passes(Filter filter) {
  // A pass that would not change the size is skipped, as Pillow does.
  if (x_.input != x_.resized) horizontal_ = filter_coefficients(filter, x_);
  if (y_.input != y_.resized) vertical_ = filter_coefficients(filter, y_);
  const bool narrows = !horizontal_.empty(), shortens = !vertical_.empty();
  column_begin_ = narrows ? horizontal_.input_begin() : x_.begin;
  column_end_ = narrows ? horizontal_.input_end() : x_.end;
  row_begin_ = shortens ? vertical_.input_begin() : y_.begin;
  row_end_ = shortens ? vertical_.input_end() : y_.end;
  vertical_first_ = narrows && shortens && vertical_pass_first(y_, x_);
  if (shortens) {
    stage_stride_ = (vertical_first_ ? column_end_ - column_begin_ : x_.kept()) * kChannels;
    stage_ = room(workspace_.stage, (row_end_ - row_begin_) * stage_stride_);
  }
}

void Resampler::push(const uint8_t* rows, int64_t stride, int64_t count) {
  if (nearest_) return push_nearest(rows, stride, count);
  const bool staged = !vertical_.empty();
  const int64_t row = next_row_ - row_begin_;
  uint8_t* target = staged ? stage_ + row * stage_stride_ : target_row(row);
  const int64_t target_stride = staged ? stage_stride_ : x_.output * kChannels;
  if (horizontal_.empty() || vertical_first_) {
    const int64_t bytes = (column_end_ - column_begin_) * kChannels;
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(target + i * target_stride, rows + i * stride, bytes);
    }
  } else {
    narrow(rows, stride, count, target, target_stride);
  }
  next_row_ += count;
}

void Resampler::push_nearest(const uint8_t* rows, int64_t stride, int64_t count) {
  const auto first = std::lower_bound(nearest_rows_.begin(), nearest_rows_.end(), next_row_);
  for (auto it = first; it != nearest_rows_.end() && *it < next_row_ + count; ++it) {
    const uint8_t* source = rows + (*it - next_row_) * stride;
    uint8_t* target = target_row(it - nearest_rows_.begin());
    for (const int32_t column : nearest_columns_) {
      std::memcpy(target, source + (column - column_begin_) * kChannels, kChannels);
      target += kChannels;
    }
  }
  next_row_ += count;
}

void Resampler::finish() {
  const int64_t target_stride = x_.output * kChannels;
  if (vertical_.empty()) return;  // every pushed row went straight to the target
  if (!vertical_first_) return shorten(target_row(0), target_stride);
  uint8_t* shortened = room(workspace_.shortened, vertical_.size() * stage_stride_);
  shorten(shortened, stage_stride_);
  narrow(shortened, stage_stride_, vertical_.size(), target_row(0), target_stride);
}

void Resampler::narrow(const uint8_t* source, int64_t stride, int64_t count, uint8_t* target,
                       int64_t target_stride) {
  const Taps taps = horizontal_.taps();
  const auto kernel = COLDPRESS_SELECT(horizontal);
  uint64_t* scratch = room(workspace_.scratch, taps.scratch());
  kernel(source, stride, count, taps, target, target_stride, scratch);
}

void Resampler::shorten(uint8_t* target, int64_t target_stride) const {
  const auto kernel = COLDPRESS_SELECT(vertical);
  for (int64_t y = 0; y < vertical_.size(); ++y) {
    const uint8_t* source = stage_ + (vertical_.first[y] - row_begin_) * stage_stride_;
    kernel(source, stage_stride_, &vertical_.weights[y * vertical_.stride], vertical_.count[y],
           stage_stride_, target + y * target_stride);
  }
}

}  // namespace coldpress::image
