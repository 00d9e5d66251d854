// Runs CUDA kernels on a CPU, to find what is wrong with them where no GPU is at hand: a thread of
// the system for each of CUDA's, one block after the other, barriers for whatever waits. Slow, and
// blind to races between blocks, to alignment and to everything that is about speed.
#pragma once

#include <algorithm>
#include <barrier>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

namespace emulation {

constexpr int kMostThreads = 1024;

struct Index {
  unsigned x, y;
};

inline thread_local Index thread_index, block_index;
inline thread_local std::barrier<>*block, *warp;
inline int threads_of_block;
inline float floats[kMostThreads];
inline int ints[kMostThreads];
inline std::vector<float> shared;

inline float shuffle_xor(float value, int lane) {
  floats[thread_index.x] = value;
  warp->arrive_and_wait();
  const float found = floats[thread_index.x ^ lane];
  warp->arrive_and_wait();
  return found;
}

inline int any_of(int value, std::barrier<>* group, unsigned begin, unsigned end) {
  ints[thread_index.x] = value;
  group->arrive_and_wait();
  const bool found = std::any_of(ints + begin, ints + end, [](int one) { return one != 0; });
  group->arrive_and_wait();
  return found;
}

inline int any_of_warp(int value) {
  const unsigned begin = thread_index.x / 32 * 32;
  return any_of(value, warp, begin, begin + 32);
}

// Blocks begin with shared memory full of NaN; what a block leaves there, the next one finds.
template <class Kernel, class... Args>
void launch(Kernel kernel, dim3 blocks, int threads, size_t shared_bytes, void*, Args... args) {
  shared.assign(shared_bytes / sizeof(float) + 1, NAN);
  threads_of_block = threads;
  std::barrier<> all(threads), done(threads);
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  for (int i = 0; i < threads / 32; ++i) warps.push_back(std::make_unique<std::barrier<>>(32));
  std::vector<std::jthread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      thread_index = {static_cast<unsigned>(t), 0};
      block = &all;
      warp = warps[t / 32].get();
      for (unsigned y = 0; y < blocks.y; ++y) {
        for (unsigned x = 0; x < blocks.x; ++x) {
          block_index = {x, y};
          kernel(args...);
          done.arrive_and_wait();
        }
      }
    });
  }
}

}  // namespace emulation

#define __launch_bounds__(...)
#define threadIdx emulation::thread_index
#define blockIdx emulation::block_index
#define __syncthreads() emulation::block->arrive_and_wait()
#define __syncthreads_or(value) \
  emulation::any_of(value, emulation::block, 0, emulation::threads_of_block)
#define __shfl_xor_sync(mask, value, lane) emulation::shuffle_xor(value, lane)
#define __any_sync(mask, value) emulation::any_of_warp(value)

using std::max;
using std::min;
