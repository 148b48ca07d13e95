// Rows of tokens: normalised and modulated, gated, biased; forward and backward. Arithmetic in f32, numbers in bf16 or
// f32. One block of threads a row, or, where columns are summed over rows, one thread a column and a part of the rows.
// No header is needed, so that it compiles where it runs.

typedef unsigned int u32;
typedef unsigned short u16;

static __device__ float wide(float x) { return x; }
static __device__ float wide(u16 x) { return __uint_as_float((u32)x << 16); }
static __device__ void put(float *to, float x) { *to = x; }
// To the nearest bf16, ties to even; what is no number stays none.
static __device__ void put(u16 *to, float x) {
  u32 bits = __float_as_uint(x);
  if (x != x) *to = 0x7fff;
  else *to = (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// The sums of two numbers over the block, in every thread.
static __device__ float2 over_block(float2 it) {
  __shared__ float2 warps[32];
  for (int lane = 16; lane > 0; lane /= 2) {
    it.x += __shfl_xor_sync(0xffffffffu, it.x, lane);
    it.y += __shfl_xor_sync(0xffffffffu, it.y, lane);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = it;
  __syncthreads();
  float2 all = {0.0f, 0.0f};
  for (u32 warp = 0; warp < blockDim.x / 32; ++warp) {
    all.x += warps[warp].x;
    all.y += warps[warp].y;
  }
  return all;
}

// Mean and 1/deviation of a row.
template <typename T> static __device__ float2 moments(const T *x, u32 n, float eps) {
  float2 sum = {0.0f, 0.0f};
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) sum.x += wide(x[i]);
  float mean = over_block(sum).x / n;
  sum.x = 0.0f;
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) {
    float off = wide(x[i]) - mean;
    sum.x += off * off;
  }
  float2 both = {mean, rsqrtf(over_block(sum).x / n + eps)};
  return both;
}

// y = norm(x)·(1 + scale) + shift; `per` rows share a scale and a shift.
template <typename T>
static __device__ void modulated(const T *x, const T *scale, const T *shift, T *y, u32 n, u32 per, float eps) {
  size_t row = blockIdx.x;
  x += row * n, y += row * n, scale += row / per * n, shift += row / per * n;
  float2 m = moments(x, n, eps);
  for (u32 i = threadIdx.x; i < n; i += blockDim.x)
    put(y + i, (wide(x[i]) - m.x) * m.y * (1.0f + wide(scale[i])) + wide(shift[i]));
}

// The gradient of x, and each row's mean and 1/deviation.
template <typename T>
static __device__ void modulated_x(const T *x, const T *scale, const T *g, T *dx, float *kept, u32 n, u32 per,
                                   float eps) {
  size_t row = blockIdx.x;
  x += row * n, g += row * n, dx += row * n, scale += row / per * n;
  float2 m = moments(x, n, eps);
  float2 sum = {0.0f, 0.0f};
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) {
    float through = wide(g[i]) * (1.0f + wide(scale[i]));
    sum.x += through;
    sum.y += through * (wide(x[i]) - m.x) * m.y;
  }
  sum = over_block(sum);
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) {
    float through = wide(g[i]) * (1.0f + wide(scale[i]));
    put(dx + i, m.y * (through - sum.x / n - (wide(x[i]) - m.x) * m.y * sum.y / n));
  }
  if (threadIdx.x == 0) {
    kept[2 * row] = m.x;
    kept[2 * row + 1] = m.y;
  }
}

// Sums over a part of an image's rows: of g·norm(x) and of g. Block (columns, part, image); sums are [image, part, 2, n].
template <typename T>
static __device__ void modulated_sums(const T *x, const T *g, const float *kept, float *sums, u32 n, u32 per) {
  u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  u32 n_parts = gridDim.y, rows = (per + n_parts - 1) / n_parts;
  u32 first = blockIdx.y * rows, end = min(first + rows, per);
  float of_scale = 0.0f, of_shift = 0.0f;
  for (size_t row = (size_t)blockIdx.z * per + first; row < (size_t)blockIdx.z * per + end; ++row) {
    float grad = wide(g[row * n + i]);
    of_scale += grad * (wide(x[row * n + i]) - kept[2 * row]) * kept[2 * row + 1];
    of_shift += grad;
  }
  float *to = sums + ((size_t)blockIdx.z * n_parts + blockIdx.y) * 2 * n;
  to[i] = of_scale;
  to[n + i] = of_shift;
}

// y = x + gate·by
template <typename T> static __device__ void gated(const T *x, const T *gate, const T *by, T *y, u32 n, u32 per) {
  size_t row = blockIdx.x;
  x += row * n, by += row * n, y += row * n, gate += row / per * n;
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) put(y + i, wide(x[i]) + wide(gate[i]) * wide(by[i]));
}

// The gradient of `by`, and sums of g·by over a part of an image's rows; as `modulated_sums`, [image, part, n].
template <typename T>
static __device__ void gated_back(const T *gate, const T *by, const T *g, T *d_by, float *sums, u32 n, u32 per) {
  u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  u32 n_parts = gridDim.y, rows = (per + n_parts - 1) / n_parts;
  u32 first = blockIdx.y * rows, end = min(first + rows, per);
  float open = wide(gate[(size_t)blockIdx.z * n + i]), sum = 0.0f;
  for (size_t row = (size_t)blockIdx.z * per + first; row < (size_t)blockIdx.z * per + end; ++row) {
    float grad = wide(g[row * n + i]);
    sum += grad * wide(by[row * n + i]);
    put(d_by + row * n + i, grad * open);
  }
  sums[((size_t)blockIdx.z * n_parts + blockIdx.y) * n + i] = sum;
}

template <typename T> static __device__ void biased(const T *x, const T *bias, T *y, u32 n) {
  size_t row = blockIdx.x;
  x += row * n, y += row * n;
  for (u32 i = threadIdx.x; i < n; i += blockDim.x) put(y + i, wide(x[i]) + wide(bias[i]));
}

// Sums over a part of the rows: [part, n].
template <typename T> static __device__ void column_sums(const T *g, float *sums, u32 n, u32 per) {
  u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  u32 n_parts = gridDim.y, rows = (per + n_parts - 1) / n_parts;
  u32 first = blockIdx.y * rows, end = min(first + rows, per);
  float sum = 0.0f;
  for (size_t row = first; row < end; ++row) sum += wide(g[row * n + i]);
  sums[(size_t)blockIdx.y * n + i] = sum;
}

// s = sigmoid(a·x + b·x³)
static __device__ float share(float x, float a, float b) { return 1.0f / (1.0f + __expf(-x * (a + b * x * x))); }

template <typename T> static __device__ void gate(const T *x, T *y, u32 n, float a, float b) {
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
    float it = wide(x[i]);
    put(y + i, it * share(it, a, b));
  }
}

// s + x·s·(1 − s)·(a + 3·b·x²)
template <typename T> static __device__ void gate_back(const T *x, const T *g, T *dx, u32 n, float a, float b) {
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
    float it = wide(x[i]), s = share(it, a, b);
    put(dx + i, wide(g[i]) * (s + it * s * (1.0f - s) * (a + 3.0f * b * it * it)));
  }
}

#define ALL(TYPE, T)                                                                                                   \
  extern "C" __global__ void modulated_##TYPE(const T *x, const T *scale, const T *shift, T *y, u32 n, u32 per,        \
                                              float eps) {                                                             \
    modulated(x, scale, shift, y, n, per, eps);                                                                        \
  }                                                                                                                    \
  extern "C" __global__ void modulated_x_##TYPE(const T *x, const T *scale, const T *g, T *dx, float *kept, u32 n,     \
                                                u32 per, float eps) {                                                  \
    modulated_x(x, scale, g, dx, kept, n, per, eps);                                                                   \
  }                                                                                                                    \
  extern "C" __global__ void modulated_sums_##TYPE(const T *x, const T *g, const float *kept, float *sums, u32 n,      \
                                                   u32 per) {                                                          \
    modulated_sums(x, g, kept, sums, n, per);                                                                          \
  }                                                                                                                    \
  extern "C" __global__ void gated_##TYPE(const T *x, const T *gate, const T *by, T *y, u32 n, u32 per) {              \
    gated(x, gate, by, y, n, per);                                                                                     \
  }                                                                                                                    \
  extern "C" __global__ void gated_back_##TYPE(const T *gate, const T *by, const T *g, T *d_by, float *sums, u32 n,    \
                                               u32 per) {                                                              \
    gated_back(gate, by, g, d_by, sums, n, per);                                                                       \
  }                                                                                                                    \
  extern "C" __global__ void biased_##TYPE(const T *x, const T *bias, T *y, u32 n) { biased(x, bias, y, n); }          \
  extern "C" __global__ void column_sums_##TYPE(const T *g, float *sums, u32 n, u32 per) {                             \
    column_sums(g, sums, n, per);                                                                                      \
  }                                                                                                                    \
  extern "C" __global__ void gate_##TYPE(const T *x, T *y, u32 n, float a, float b) { gate(x, y, n, a, b); }           \
  extern "C" __global__ void gate_back_##TYPE(const T *x, const T *g, T *dx, u32 n, float a, float b) {                \
    gate_back(x, g, dx, n, a, b);                                                                                      \
  }

ALL(f32, float)
ALL(bf16, u16)
