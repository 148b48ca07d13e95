// softmax(scale * x) of each row of bf16 numbers, in place; arithmetic in f32. One block of threads a row: the largest
// number and the sum of the powers come from one pass (Milakov and Gimelshein 2018, arXiv 1805.02867), the shares
// from a second one that finds the row in the cache. No header is needed, so that it compiles where it runs.

typedef unsigned int u32;
typedef unsigned short u16;

static __device__ float low(u32 two) { return __uint_as_float(two << 16); }
static __device__ float high(u32 two) { return __uint_as_float(two & 0xffff0000u); }

// To the nearest bf16, ties to even; x is finite.
static __device__ u32 narrow(float x) {
  u32 bits = __float_as_uint(x);
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

struct Sum {
  float top, sum;
  __device__ void add(float x) {
    float higher = fmaxf(top, x);
    sum = sum * exp2f(top - higher) + exp2f(x - higher);
    top = higher;
  }
  __device__ void join(float other_top, float other_sum) {
    float higher = fmaxf(top, other_top);
    sum = sum * exp2f(top - higher) + other_sum * exp2f(other_top - higher);
    top = higher;
  }
};

static __device__ Sum over_block(Sum mine) {
  __shared__ float tops[32], sums[32];
  for (int lane = 16; lane > 0; lane /= 2) {
    float top = __shfl_xor_sync(0xffffffffu, mine.top, lane);
    float sum = __shfl_xor_sync(0xffffffffu, mine.sum, lane);
    mine.join(top, sum);
  }
  if (threadIdx.x % 32 == 0) {
    tops[threadIdx.x / 32] = mine.top;
    sums[threadIdx.x / 32] = mine.sum;
  }
  __syncthreads();
  Sum all = {tops[0], sums[0]};
  for (u32 warp = 1; warp < blockDim.x / 32; ++warp) all.join(tops[warp], sums[warp]);
  return all;
}

// Far below any score, and finite: differences stay numbers.
#define LOWEST -1e30f

// `scale` is the logarithm's: scale * log2(e).
extern "C" __global__ void softmax_rows(u16 *scores, u32 n, float scale) {
  u16 *row = scores + (size_t)blockIdx.x * n;
  Sum mine = {LOWEST, 0.0f};
  if (n % 8 == 0) {
    uint4 *eights = (uint4 *)row;
    for (u32 i = threadIdx.x; i < n / 8; i += blockDim.x) {
      uint4 x = eights[i];
      u32 pairs[4] = {x.x, x.y, x.z, x.w};
      float top = LOWEST;
#pragma unroll
      for (int p = 0; p < 4; ++p) top = fmaxf(top, fmaxf(low(pairs[p]) * scale, high(pairs[p]) * scale));
      float sum = 0.0f;
#pragma unroll
      for (int p = 0; p < 4; ++p) sum += exp2f(low(pairs[p]) * scale - top) + exp2f(high(pairs[p]) * scale - top);
      mine.join(top, sum);
    }
    Sum all = over_block(mine);
    float share = 1.0f / all.sum;
    for (u32 i = threadIdx.x; i < n / 8; i += blockDim.x) {
      uint4 x = eights[i];
      u32 pairs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        float first = exp2f(low(pairs[p]) * scale - all.top) * share;
        float second = exp2f(high(pairs[p]) * scale - all.top) * share;
        pairs[p] = narrow(first) | narrow(second) << 16;
      }
      eights[i] = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
  } else {
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) mine.add(low(row[i]) * scale);
    Sum all = over_block(mine);
    float share = 1.0f / all.sum;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) row[i] = narrow(exp2f(low(row[i]) * scale - all.top) * share);
  }
}
