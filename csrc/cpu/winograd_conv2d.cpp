// winograd_conv2d: y = activation(conv3x3(x, W) + bias [+ residual]) at stride 1 on channels-last
// images, by Winograd's F(4 x 4, 3 x 3): 36 products make 16 outputs, where the sum over the window
// takes 144.
//
// A task takes some tiles through all three steps: read and transform into 36 planes, multiply each
// of them by its own weights, transform back and write. The planes stay in L2 where the weights do;
// where these come from farther away, more tiles share each pass over them. Bound by FMA
// throughput, but for 7 x 7 maps of 512 channels, where 38 MB of weights pass by. Every value
// depends on its tile alone, and the tiles of an image lie the same whatever else is in the batch.
//
// One core of a Zen 5 (286 GFLOP/s), in operations of the plain sum: 690 GFLOP/s at 56 x 56 with 64
// channels, 810 at 28 x 28 with 128, 600 at 14 x 14 with 256 and 590 at 7 x 7 with 512 (the tiles
// overhang the last two by 31 %), 2.0 to 3.2 times conv2d. A third of that is the transforms.
#include "core/conv_shape.h"
#include "core/kernel.h"

namespace coldpress {

// Points of a tile of the input, and outputs on a side of one.
constexpr int64_t kWinogradPoints = 36, kWinogradSide = 4;

// The tiles of all images in order, `wide` in a row of tiles and `high` rows in an image.
struct WinogradTiles {
  int64_t high, wide;
};

// Floats between the planes of two points: `tiles` rows of `channels`, and a cache line, so that
// the 36 planes do not fall into one set of the cache.
inline int64_t winograd_plane(int64_t tiles, int64_t channels) {
  return tiles * ((channels + 15) / 16 * 16) + 16;
}

// Tiles [first, first + count): `packed` (36, panels, C, 64), `zeros` C zeros, `scratch` the 36
// planes of the input and those of the output.
COLDPRESS_KERNEL(winograd_tiles, const float* x, const Conv& conv, const WinogradTiles& tiles,
                 int64_t first, int64_t count, const float* packed, const float* bias,
                 const float* residual, Activation activation, const float* zeros, float* scratch,
                 float* out)

}  // namespace coldpress

#ifndef COLDPRESS_LAUNCHER
#include "core/gemm.h"
#include "core/math.h"

namespace coldpress::COLDPRESS_ISA_LEVEL {
namespace {

constexpr int kPoints = 6, kSide = 4;
// The finite points of the transform: 0, +-5/8, +-3/2. Rounding errors are half of those of the
// usual 0, +-1, +-2, less than twice those of the plain sum; and their powers are exact in fp32.
constexpr float kA = 0.625f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;

// d becomes B^T d.
inline __attribute__((always_inline)) void transform_input(Vec (&d)[kPoints]) {
  const Vec product = Vec::set(kA2 * kB2), sum = Vec::set(-(kA2 + kB2));
  const Vec even_a = fma(Vec::set(-kB2), d[2], d[4]), odd_a = fma(Vec::set(-kB2), d[1], d[3]);
  const Vec even_b = fma(Vec::set(-kA2), d[2], d[4]), odd_b = fma(Vec::set(-kA2), d[1], d[3]);
  d[0] = fma(product, d[0], fma(sum, d[2], d[4]));
  d[5] = fma(product, d[1], fma(sum, d[3], d[5]));
  d[1] = fma(Vec::set(kA), odd_a, even_a);
  d[2] = fma(Vec::set(-kA), odd_a, even_a);
  d[3] = fma(Vec::set(kB), odd_b, even_b);
  d[4] = fma(Vec::set(-kB), odd_b, even_b);
}

// y = A^T m
inline __attribute__((always_inline)) void transform_output(const Vec (&m)[kPoints],
                                                            Vec (&y)[kSide]) {
  const Vec even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  y[0] = m[0] + even_a + even_b;
  y[1] = fma(Vec::set(kB), odd_b, Vec::set(kA) * odd_a);
  y[2] = fma(Vec::set(kB2), even_b, Vec::set(kA2) * even_a);
  y[3] = fma(Vec::set(kB2 * kB), odd_b, fma(Vec::set(kA2 * kA), odd_a, m[5]));
}

// Where a tile lies: of which image, and its first output.
struct Corner {
  int64_t image, y, x;
};

inline Corner corner_of(const WinogradTiles& tiles, int64_t tile) {
  const int64_t image = tile / (tiles.high * tiles.wide), at = tile % (tiles.high * tiles.wide);
  return {image, at / tiles.wide * kSide, at % tiles.wide * kSide};
}

// One tile of the input, transformed, into its row of the 36 planes.
void read_tile(const float* x, const Conv& conv, const Corner& corner, const float* zeros,
               float* planes, int64_t plane) {
  const float* pixels[kPoints][kPoints];
  for (int64_t i = 0; i < kPoints; ++i) {
    for (int64_t j = 0; j < kPoints; ++j) {
      const int64_t row = corner.y + i - conv.top, column = corner.x + j - conv.left;
      const bool inside = row >= 0 && row < conv.H && column >= 0 && column < conv.W;
      pixels[i][j] =
          inside ? x + ((corner.image * conv.H + row) * conv.W + column) * conv.C : zeros;
    }
  }
  for (int64_t c = 0; c < conv.C; c += kLanes) {
    Vec columns[kPoints][kPoints];
#pragma GCC unroll 8
    for (int j = 0; j < kPoints; ++j) {
      Vec d[kPoints];
#pragma GCC unroll 8
      for (int i = 0; i < kPoints; ++i) d[i] = load_first(pixels[i][j] + c, conv.C - c);
      transform_input(d);
#pragma GCC unroll 8
      for (int i = 0; i < kPoints; ++i) columns[i][j] = d[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kPoints; ++i) {
      transform_input(columns[i]);
#pragma GCC unroll 8
      for (int j = 0; j < kPoints; ++j) {
        columns[i][j].store(planes + (i * kPoints + j) * plane + c);
      }
    }
  }
}

// products (count, N rounded up) = planes (count, C) times a point's weights (panels, C, 64).
void multiply_point(const float* planes, int64_t count, const Conv& conv, const float* weights,
                    float* products) {
  const int64_t C = conv.C, width = round_up(C, kLanes), N = round_up(conv.N, kLanes);
  const auto part = [&](auto vecs, int64_t column) {
    const float* b = weights + column / kConvPanel * C * kConvPanel + column % kConvPanel;
    matmul<vecs()>(planes, width, 1, b, kConvPanel, count, C, [&](int64_t row, int v, Vec value) {
      value.store(products + row * N + column + v * kLanes);
    });
  };
  int64_t column = 0;
  for (; column + kTileVecs * kLanes <= N; column += kTileVecs * kLanes) {
    part(std::integral_constant<int, kTileVecs>{}, column);
  }
  for (; column < N; column += kLanes) part(std::integral_constant<int, 1>{}, column);
}

// One tile of the output from its row of the 36 planes: bias, residual, activation.
template <Activation activation>
void write_tile(const float* planes, int64_t plane, const Conv& conv, const Corner& corner,
                const float* bias, const float* residual, float* out) {
  const int64_t high = conv.OH - corner.y, wide = conv.OW - corner.x;
  const int64_t begin = ((corner.image * conv.OH + corner.y) * conv.OW + corner.x) * conv.N;
  for (int64_t n = 0; n < conv.N; n += kLanes) {
    Vec rows[kSide][kPoints];
#pragma GCC unroll 8
    for (int j = 0; j < kPoints; ++j) {
      Vec m[kPoints], y[kSide];
#pragma GCC unroll 8
      for (int i = 0; i < kPoints; ++i) m[i] = Vec::load(planes + (i * kPoints + j) * plane + n);
      transform_output(m, y);
#pragma GCC unroll 8
      for (int i = 0; i < kSide; ++i) rows[i][j] = y[i];
    }
    const int64_t left = conv.N - n;
    const Vec shift = load_first(bias + n, left);
    for (int i = 0; i < kSide && i < high; ++i) {
      Vec y[kSide];
      transform_output(rows[i], y);
      for (int j = 0; j < kSide && j < wide; ++j) {
        const int64_t at = begin + (i * conv.OW + j) * conv.N + n;
        Vec value = y[j] + shift;
        if (residual) value = value + load_first(residual + at, left);
        store_first(activate(activation, value), out + at, left);
      }
    }
  }
}

}  // namespace

void winograd_tiles(const float* x, const Conv& conv, const WinogradTiles& tiles, int64_t first,
                    int64_t count, const float* packed, const float* bias, const float* residual,
                    Activation activation, const float* zeros, float* scratch, float* out) {
  const int64_t read = winograd_plane(count, conv.C), written = winograd_plane(count, conv.N);
  const int64_t weights = round_up(conv.N, kConvPanel) * conv.C;
  float* products = scratch + kWinogradPoints * read;
  for (int64_t t = 0; t < count; ++t) {
    read_tile(x, conv, corner_of(tiles, first + t), zeros, scratch + t * round_up(conv.C, kLanes),
              read);
  }
  for (int64_t point = 0; point < kWinogradPoints; ++point) {
    multiply_point(scratch + point * read, count, conv, packed + point * weights,
                   products + point * written);
  }
  with_activation(activation, [&](auto known) {
    for (int64_t t = 0; t < count; ++t) {
      write_tile<known()>(products + t * round_up(conv.N, kLanes), written, conv,
                          corner_of(tiles, first + t), bias, residual, out);
    }
  });
}

}  // namespace coldpress::COLDPRESS_ISA_LEVEL

#else
#include "core/launch_conv.h"

namespace coldpress {
namespace {

// Floats of planes that stay in L2 beside other things.
constexpr int64_t kResident = 144 * 1024;

// Tiles a task takes at a time: the larger the weights, the more often each of them is used before
// the next.
int64_t tiles_at_once(const Conv& conv, int64_t tiles) {
  const int64_t weights = kWinogradPoints * conv.C * conv.N;
  const int64_t planes = std::max(kResident, weights / 4);
  const int64_t most = planes / (kWinogradPoints * (conv.C + conv.N)) / 6 * 6;
  return std::min(std::max<int64_t>(most, 6), tiles);
}

Tensor winograd_conv2d(const Tensor& x, const Tensor& packed, const Tensor& bias,
                       const std::optional<Tensor>& residual, const std::vector<int64_t>& padding,
                       const std::string& activation) {
  const int64_t N = bias.numel();
  const Conv conv = conv_of(x, {3, 3}, 1, padding, N, "winograd_conv2d");
  STD_TORCH_CHECK(packed.dim() == 4 && packed.size(0) == kWinogradPoints &&
                      packed.size(1) == ceil_div(N, kConvPanel) && packed.size(2) == conv.C &&
                      packed.size(3) == kConvPanel,
                  "coldpress::winograd_conv2d: packed weights do not fit x and bias");
  ConvOperands at = operands_of(conv, x, packed, bias, residual, "winograd_conv2d");
  float* out_data = out_floats(at.out);
  const Activation epilogue = activation_named(activation);
  const auto run = COLDPRESS_SELECT(winograd_tiles);
  const Scratch zeros(conv.C);
  std::fill(zeros.get(), zeros.get() + conv.C, 0.0f);
  const WinogradTiles tiles{ceil_div(conv.OH, kWinogradSide), ceil_div(conv.OW, kWinogradSide)};
  const int64_t total = x.size(0) * tiles.high * tiles.wide, step = tiles_at_once(conv, total);
  if (total == 0) return at.out;
  for_each_task(ceil_div(total, step), [&](int64_t task) {
    const int64_t first = task * step, count = std::min(step, total - first);
    const Scratch planes(kWinogradPoints *
                         (winograd_plane(count, conv.C) + winograd_plane(count, N)));
    run(at.x, conv, tiles, first, count, at.packed, at.bias, at.residual, epilogue, zeros.get(),
        planes.get(), out_data);
  });
  return at.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(coldpress, CPU, m) {
  m.impl("winograd_conv2d", TORCH_BOX(&winograd_conv2d));
}

}  // namespace coldpress
#endif
