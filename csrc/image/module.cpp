// The Python module `_image`: adapters between numpy and the functions of this folder, nothing
// else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/isa.h"
#include "image/batch.h"
#include "image/jpeg.h"
#include "image/plan.h"
#include "image/resample.h"
#include "image/transform.h"

namespace py = pybind11;

namespace coldpress::image {
namespace {

using Pixels = py::array_t<uint8_t, py::array::c_style>;
using Pair = std::optional<std::pair<int64_t, int64_t>>;

Transform make_transform(std::optional<int64_t> shortest_edge, Pair exact, Pair crop,
                         const std::string& filter, bool half_to_even, bool fast_decode) {
  const auto size = [](const Pair& pair) -> std::optional<Size> {
    if (!pair) return std::nullopt;
    return Size{pair->first, pair->second};
  };
  Transform transform{shortest_edge, size(exact), size(crop), filter_from_name(filter),
                      half_to_even,  fast_decode};
  if (shortest_edge && exact) throw py::value_error("give shortest_edge or exact, not both");
  for (const auto& wanted :
       {shortest_edge ? Size{*shortest_edge, 1} : Size{1, 1}, transform.exact.value_or(Size{1, 1}),
        transform.crop.value_or(Size{1, 1})}) {
    if (wanted.height < 1 || wanted.width < 1) throw py::value_error("sizes must be at least 1");
  }
  return transform;
}

Pixels make_pixels(Size size) { return Pixels({size.height, size.width, kChannels}); }

// Hands the memory over to numpy without a copy.
Pixels adopt(std::unique_ptr<uint8_t[]> memory, Size size) {
  uint8_t* data = memory.get();
  py::capsule owner(memory.release(),
                    [](void* pointer) { delete[] static_cast<uint8_t*>(pointer); });
  return Pixels({size.height, size.width, kChannels}, data, owner);
}

std::vector<Bytes> views(const std::vector<py::bytes>& files) {
  std::vector<Bytes> result;
  for (const auto& file : files) {
    const std::string_view view(file);
    result.emplace_back(reinterpret_cast<const uint8_t*>(view.data()), view.size());
  }
  return result;
}

using Reasons = std::vector<std::string>;

// The images of a batch in one way: one array where all have the same size, else one each.
class Images {
 public:
  Images(const Transform& way, int64_t count) : size_(way.fixed_output()) {
    if (size_) {
      batch_ = Pixels({count, size_->height, size_->width, kChannels});
      data_ = batch_.mutable_data();
    } else {
      images_.resize(count);
    }
  }

  // Memory for image i; needs no GIL.
  uint8_t* allocate(int64_t i, Size size) {
    if (size_) return data_ + i * size_->area() * kChannels;
    images_[i] = {std::make_unique_for_overwrite<uint8_t[]>(size.area() * kChannels), size};
    return images_[i].pixels.get();
  }

  py::object take(const Reasons& reasons) {
    if (size_) return std::move(batch_);
    py::list arrays;
    for (size_t i = 0; i < images_.size(); ++i) {
      if (reasons[i].empty()) {
        arrays.append(adopt(std::move(images_[i].pixels), images_[i].size));
      } else {
        arrays.append(py::none());
      }
    }
    return arrays;
  }

 private:
  struct Image {
    std::unique_ptr<uint8_t[]> pixels;
    Size size{0, 0};
  };
  std::optional<Size> size_;
  Pixels batch_;
  uint8_t* data_ = nullptr;
  std::vector<Image> images_;
};

py::tuple load_jpegs(const std::vector<py::bytes>& files, const std::vector<Transform>& ways,
                     int threads, int64_t max_pixels) {
  const auto fast = std::ranges::count_if(ways, [](const Transform& w) { return w.fast_decode; });
  if (ways.empty() || (fast && ways.size() > 1)) {
    throw py::value_error("expected one transform, or several without fast_decode");
  }
  const std::vector<Bytes> contents = views(files);  // `files` keeps the bytes alive
  const auto count = static_cast<int64_t>(contents.size());
  std::vector<Images> images;
  for (const Transform& way : ways) images.emplace_back(way, count);
  Reasons reasons(count);
  Times times;
  {
    const py::gil_scoped_release release;
    times = parallel_for(count, threads, [&](int64_t i, Worker& worker) {
      const auto allocate = [&](size_t way, Size size) { return images[way].allocate(i, size); };
      reasons[i] = load_jpeg(contents[i], ways, max_pixels, allocate, worker);
    });
  }
  py::list pixels;
  for (Images& way : images) pixels.append(way.take(reasons));
  const auto seconds = [](auto time) { return std::chrono::duration<double>(time).count(); };
  return py::make_tuple(std::move(pixels), std::move(reasons),
                        py::make_tuple(seconds(times.decode), seconds(times.resize)));
}

std::vector<std::string> isa_levels() {
  std::istringstream names(coldpress_isa_levels());
  std::vector<std::string> levels;
  for (std::string name; std::getline(names, name, ',');) levels.push_back(name);
  return levels;
}

void set_isa(const std::string& level) {
  if (coldpress_set_isa(level.c_str()) != 0) {
    throw py::value_error("ISA level '" + level +
                          "' cannot run here, can: " + coldpress_isa_levels());
  }
}

Pixels resize(const Pixels& image, const Transform& transform) {
  if (image.ndim() != 3 || image.shape(2) != kChannels || image.size() == 0) {
    throw py::value_error("expected a non-empty array of shape (height, width, 3)");
  }
  const Size size{image.shape(0), image.shape(1)};
  Pixels result = make_pixels(transform.output(size));
  const uint8_t* source = image.data();
  uint8_t* target = result.mutable_data();
  const py::gil_scoped_release release;
  Workspace workspace;
  Resampler resampler(size, transform.resized(size), transform, target, workspace);
  const int64_t stride = size.width * kChannels;
  const uint8_t* first = source + resampler.row_begin() * stride;
  resampler.push(first + resampler.column_begin() * kChannels, stride,
                 resampler.row_end() - resampler.row_begin());
  resampler.finish();
  return result;
}

py::tuple axis_arrays(const AxisPlan& plan) {
  const auto rows = static_cast<int64_t>(plan.first.size());
  py::array_t<int32_t> first(rows, plan.first.data());
  py::array_t<int32_t> weights({rows, plan.taps}, plan.weights.data());
  return py::make_tuple(std::move(first), std::move(weights), plan.pad);
}

py::tuple resize_plan(int64_t height, int64_t width, const Transform& transform) {
  if (height < 1 || width < 1) throw py::value_error("sizes must be at least 1");
  const Size size{height, width};
  const Plan plan = plan_resize(size, transform.resized(size), transform);
  return py::make_tuple(axis_arrays(plan.y), axis_arrays(plan.x), plan.vertical_first);
}

}  // namespace
}  // namespace coldpress::image

PYBIND11_MODULE(_image, module, py::mod_gil_not_used()) {
  using namespace coldpress::image;
  py::class_<Transform>(module, "Transform")
      .def(py::init(&make_transform), py::kw_only(), py::arg("shortest_edge") = py::none(),
           py::arg("exact") = py::none(), py::arg("crop") = py::none(),
           py::arg("filter") = "bicubic", py::arg("half_to_even") = false,
           py::arg("fast_decode") = false)
      .def("resized", [](const Transform& self, int64_t height, int64_t width) {
        const Size size = self.resized({height, width});
        return std::pair(size.height, size.width);
      });
  module.def("isa", &coldpress_isa);
  module.def("isa_levels", &isa_levels);
  module.def("set_isa", &set_isa, py::arg("level"));
  module.def("jpeg_library", &jpeg_library);
  module.def("load_jpegs", &load_jpegs, py::arg("files"), py::arg("transforms"), py::kw_only(),
             py::arg("threads"), py::arg("max_pixels"));
  module.def("resize_plan", &resize_plan, py::arg("height"), py::arg("width"),
             py::arg("transform"));
  module.def("resize", &resize, py::arg("image").noconvert(), py::arg("transform"));
}
