// separable_conv2d: [expand 1x1 ->] depthwise -> project 1x1 [+ x], the block of the MobileNets.
//
// The wide maps between its layers never leave L2. A few rows of the output at a time: panel by
// panel of 64 channels, the rows under their windows are expanded into a ring, of which the new
// ones are still in L1 when the depthwise convolution reads them; its result waits in a strip for
// the projection. Only the narrow input and output touch memory. Every value is the one that conv2d
// and depthwise_conv2d give.
//
// Blocks of MobileNetV2 on one core of a Zen 5: 95 of 286 GFLOP/s at 112 x 112 with 32 channels,
// 137 to 160 down to 28 x 28, 170 to 195 from 14 x 14 on (33 to 68 %). About half of the time is
// the expansion, a third the projection, the rest the depthwise convolution.
#include "core/conv_shape.h"
#include "core/kernel.h"

namespace coldpress {

// Weights of a 1x1 convolution, as conv2d takes them; `packed` is null where there is none.
struct Pointwise {
  const float* packed;
  const float* bias;
  int64_t inputs, outputs;
};

// `depthwise` has the sizes of the middle; its C channels are the outputs of `expand`.
struct Separable {
  Pointwise expand;
  Conv depthwise;
  const float* taps;
  const float* bias;
  Pointwise project;
  Activation inner, outer;
  bool residual;
  int64_t strip;  // rows of the output at a time
};

// Rows of the ring: those under the windows of a strip.
inline int64_t ring_rows(const Conv& conv, int64_t strip) {
  return (strip - 1) * conv.stride + (conv.kernel_h - 1) * conv.dilation + 1;
}

// Rows [first, last) of the output of one image x (H, W, inputs); out (OH, OW, outputs). `scratch`
// holds the ring and the strip.
COLDPRESS_KERNEL(separable_rows, const float* x, const Separable& layers, int64_t first,
                 int64_t last, float* scratch, float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/conv.h"
#include "core/depthwise.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

// Panel `at` of a 1x1 convolution of `pixels` pixels; rows of the output are `stride` floats apart.
void pointwise_panel(const Pointwise& layer, int64_t at, Activation activation, const float* x,
                     int64_t pixels, const float* residual, float* out, int64_t stride) {
  const Conv conv{1, pixels, layer.inputs, stride, 1, pixels, 1, 1, 1, 1, 0, 0, true};
  const int64_t left = layer.outputs - at;
  convolve(activation,
           {x, conv, nullptr, layer.packed + at * layer.inputs, layer.bias + at,
            left < kConvPanel ? left : kConvPanel, residual, out, false},
           0, pixels);
}

struct Strip {
  int64_t first, count;     // rows of the output
  int64_t top, begin, end;  // rows of the input: under the first window, not yet expanded
};

// Channels [at, at + part.channels) of the depthwise result of a strip; `input` (H, W) has the row
// y % size at slot y, so that it may be a ring.
void depthwise_strip(const Separable& layers, const Strip& strip, const DepthwisePart& part,
                     int64_t at, const float* input, int64_t size, float* out) {
  const Conv& conv = layers.depthwise;
  for (int64_t i = 0; i < strip.count; ++i) {
    const float* rows[kLargestWindow];
    for (int64_t ky = 0; ky < conv.kernel_h; ++ky) {
      const int64_t y = strip.top + i * conv.stride + ky * conv.dilation;
      rows[ky] = y < 0 || y >= conv.H ? nullptr : input + y % size * conv.W * part.pixel;
    }
    depthwise_row(layers.inner, rows, conv, part, layers.taps + at, layers.bias + at,
                  out + at + i * conv.OW * conv.C);
  }
}

}  // namespace

void separable_rows(const float* x, const Separable& layers, int64_t first, int64_t last,
                    float* scratch, float* out) {
  const Conv& conv = layers.depthwise;
  const Pointwise &expand = layers.expand, &project = layers.project;
  const int64_t size = ring_rows(conv, layers.strip), C = conv.C, N = project.outputs;
  float* ring = scratch;
  float* wide = scratch + (expand.packed ? size * conv.W * round_up(C, kConvPanel) : 0);
  int64_t done = first * conv.stride - conv.top;  // rows of the input that have been expanded
  if (done < 0) done = 0;
  for (int64_t oy = first; oy < last; oy += layers.strip) {
    Strip strip{oy, last - oy < layers.strip ? last - oy : layers.strip,
                oy * conv.stride - conv.top, done, 0};
    const int64_t below = strip.top + ring_rows(conv, strip.count);
    strip.end = below < conv.H ? below : conv.H;
    if (strip.begin < strip.top) strip.begin = strip.top;
    if (!expand.packed) depthwise_strip(layers, strip, {C, C, C, C}, 0, x, conv.H, wide);
    for (int64_t at = 0; expand.packed && at < C; at += kConvPanel) {
      float* slots = ring + size * conv.W * at;
      for (int64_t y = strip.begin; y < strip.end;) {  // up to where the ring wraps around
        const int64_t slot = y % size;
        const int64_t rows = strip.end - y < size - slot ? strip.end - y : size - slot;
        pointwise_panel(expand, at, layers.inner, x + y * conv.W * expand.inputs, rows * conv.W,
                        nullptr, slots + slot * conv.W * kConvPanel, kConvPanel);
        y += rows;
      }
      const DepthwisePart part{C - at < kConvPanel ? C - at : kConvPanel, kConvPanel, C, C};
      depthwise_strip(layers, strip, part, at, slots, size, wide);
    }
    done = strip.end;
    const int64_t begin = oy * conv.OW * N;
    for (int64_t at = 0; at < N; at += kConvPanel) {
      pointwise_panel(project, at, layers.outer, wide, strip.count * conv.OW,
                      layers.residual ? x + begin + at : nullptr, out + begin + at, N);
    }
  }
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_conv.h"

namespace coldpress {
namespace {

// Pixels of a strip, at least: enough rows for the register blocks, few enough for L2.
constexpr int64_t kStripPixels = 48;

Pointwise pointwise_of(const Tensor& packed, const Tensor& bias, int64_t inputs, const char* what) {
  const int64_t N = bias.numel();
  STD_TORCH_CHECK(packed.dim() == 3 && packed.size(0) == ceil_div(N, kConvPanel) &&
                      packed.size(1) == inputs && packed.size(2) == kConvPanel,
                  "coldpress::separable_conv2d: ", what, " does not fit its bias and inputs");
  return {packed_floats(packed, what), packed_floats(bias, what), inputs, N};
}

Tensor separable_conv2d(const Tensor& x, const std::optional<Tensor>& expand,
                        const std::optional<Tensor>& expand_bias, const Tensor& taps,
                        const Tensor& taps_bias, const Tensor& project, const Tensor& project_bias,
                        const std::vector<int64_t>& kernel, int64_t stride, int64_t dilation,
                        const std::vector<int64_t>& padding, const std::string& inner,
                        const std::string& outer, bool residual) {
  const int64_t C = taps_bias.numel(), N = project_bias.numel();
  Separable layers;
  layers.depthwise = conv_of(x, kernel, stride, padding, C, "separable_conv2d", dilation);
  Conv& conv = layers.depthwise;
  layers.expand = {nullptr, nullptr, conv.C, C};
  STD_TORCH_CHECK(expand ? expand_bias && expand_bias->numel() == C : conv.C == C,
                  "coldpress::separable_conv2d: taps do not fit what is in front of them");
  if (expand) layers.expand = pointwise_of(*expand, *expand_bias, conv.C, "expand");
  conv.C = C;
  layers.project = pointwise_of(project, project_bias, C, "project");
  STD_TORCH_CHECK(
      taps.numel() == conv.kernel_h * conv.kernel_w * C && conv.kernel_h <= kLargestWindow,
      "coldpress::separable_conv2d: taps must be (h * w, C), h at most ", kLargestWindow);
  Tensor out = torch::stable::new_empty(x, {x.size(0), conv.OH, conv.OW, N});
  STD_TORCH_CHECK(!residual || out.numel() == x.numel(),
                  "coldpress::separable_conv2d: a residual needs an output of the shape of x");
  layers.taps = packed_floats(taps, "separable_conv2d: taps");
  layers.bias = packed_floats(taps_bias, "separable_conv2d: taps_bias");
  layers.inner = activation_named(inner);
  layers.outer = activation_named(outer);
  layers.residual = residual;
  layers.strip = std::min(ceil_div(kStripPixels, conv.OW), conv.OH);
  const float* x_data = packed_floats(x, "separable_conv2d: x");
  float* out_data = out_floats(out);
  const auto run = COLDPRESS_SELECT(separable_rows);
  const int64_t B = x.size(0), threads = torch::stable::get_num_threads();
  // Fewer images than threads: each is cut, and the rows of the expansion between parts made twice.
  const int64_t parts = B >= threads ? 1 : std::min(threads, ceil_div(conv.OH, layers.strip));
  const int64_t rows = ceil_div(conv.OH, parts);
  const int64_t panels = ceil_div(C, kConvPanel) * kConvPanel;
  const int64_t ring = expand ? ring_rows(conv, layers.strip) * conv.W * panels : 0;
  for_each_task(B * parts, [&](int64_t task) {
    const int64_t image = task / parts, first = task % parts * rows;
    if (first >= conv.OH) return;
    const Scratch scratch(ring + layers.strip * conv.OW * C);
    run(x_data + image * (x.numel() / B), layers, first, std::min(first + rows, conv.OH),
        scratch.get(), out_data + image * conv.OH * conv.OW * N);
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) {
  m.impl("separable_conv2d", TORCH_BOX(&separable_conv2d));
}

}  // namespace coldpress
#endif
