// Rows of tokens: normalised and modulated, gated, biased; forward and backward; and sums of them. Arithmetic in f32, numbers in bf16 or
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

// W numbers that are read and written at once.
template <typename T, u32 W> struct alignas(sizeof(T) * W) Pack {
  T at[W];
};
template <u32 W, typename T> static __device__ Pack<T, W> load(const T *from) { return *(const Pack<T, W> *)from; }
template <u32 W, typename T> static __device__ void store(T *to, const Pack<T, W> &pack) { *(Pack<T, W> *)to = pack; }

// Whether rows of n numbers can be read 16 bytes at a time.
template <typename T>
static __device__ bool fits16(size_t n, const T *a, const T *b, const T *c = nullptr, const T *d = nullptr) {
  return n % (16 / sizeof(T)) == 0 && (((size_t)a | (size_t)b | (size_t)c | (size_t)d) % 16) == 0;
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
template <u32 W, typename T> static __device__ float2 moments(const T *x, u32 n, float eps) {
  float2 sum = {0.0f, 0.0f};
  for (u32 i = threadIdx.x * W; i < n; i += blockDim.x * W) {
    Pack<T, W> own = load<W>(x + i);
    for (u32 j = 0; j < W; ++j) sum.x += wide(own.at[j]);
  }
  float mean = over_block(sum).x / n;
  sum.x = 0.0f;
  for (u32 i = threadIdx.x * W; i < n; i += blockDim.x * W) {
    Pack<T, W> own = load<W>(x + i);
    for (u32 j = 0; j < W; ++j) {
      float off = wide(own.at[j]) - mean;
      sum.x += off * off;
    }
  }
  float2 both = {mean, rsqrtf(over_block(sum).x / n + eps)};
  return both;
}

// y = norm(x)·(1 + scale) + shift; `per` rows share a scale and a shift.
template <u32 W, typename T>
static __device__ void modulate(const T *x, const T *scale, const T *shift, T *y, u32 n, float eps) {
  float2 m = moments<W>(x, n, eps);
  for (u32 i = threadIdx.x * W; i < n; i += blockDim.x * W) {
    Pack<T, W> own = load<W>(x + i), by = load<W>(scale + i), plus = load<W>(shift + i);
    for (u32 j = 0; j < W; ++j)
      put(own.at + j, (wide(own.at[j]) - m.x) * m.y * (1.0f + wide(by.at[j])) + wide(plus.at[j]));
    store(y + i, own);
  }
}

template <typename T>
static __device__ void modulated(const T *x, const T *scale, const T *shift, T *y, u32 n, u32 per, float eps) {
  size_t row = blockIdx.x;
  x += row * n, y += row * n, scale += row / per * n, shift += row / per * n;
  if (fits16(n, x, y, scale, shift)) modulate<16 / sizeof(T)>(x, scale, shift, y, n, eps);
  else modulate<1>(x, scale, shift, y, n, eps);
}

// The gradient of x, and each row's mean and 1/deviation.
template <u32 W, typename T>
static __device__ float2 modulate_back(const T *x, const T *scale, const T *g, T *dx, u32 n, float eps) {
  float2 m = moments<W>(x, n, eps);
  float2 sum = {0.0f, 0.0f};
  for (u32 i = threadIdx.x * W; i < n; i += blockDim.x * W) {
    Pack<T, W> own = load<W>(x + i), by = load<W>(scale + i), grad = load<W>(g + i);
    for (u32 j = 0; j < W; ++j) {
      float through = wide(grad.at[j]) * (1.0f + wide(by.at[j]));
      sum.x += through;
      sum.y += through * (wide(own.at[j]) - m.x) * m.y;
    }
  }
  sum = over_block(sum);
  for (u32 i = threadIdx.x * W; i < n; i += blockDim.x * W) {
    Pack<T, W> own = load<W>(x + i), by = load<W>(scale + i), grad = load<W>(g + i);
    for (u32 j = 0; j < W; ++j) {
      float through = wide(grad.at[j]) * (1.0f + wide(by.at[j]));
      put(own.at + j, m.y * (through - sum.x / n - (wide(own.at[j]) - m.x) * m.y * sum.y / n));
    }
    store(dx + i, own);
  }
  return m;
}

template <typename T>
static __device__ void modulated_x(const T *x, const T *scale, const T *g, T *dx, float *kept, u32 n, u32 per,
                                   float eps) {
  size_t row = blockIdx.x;
  x += row * n, g += row * n, dx += row * n, scale += row / per * n;
  float2 m = fits16(n, x, scale, g, (const T *)dx) ? modulate_back<16 / sizeof(T)>(x, scale, g, dx, n, eps)
                                                   : modulate_back<1>(x, scale, g, dx, n, eps);
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
template <u32 W, typename T> static __device__ void open_gate(const T *x, const T *gate, const T *by, T *y, u32 n) {
  for (u32 i = threadIdx.x * W; i < n; i += blockDim.x * W) {
    Pack<T, W> own = load<W>(x + i), open = load<W>(gate + i), more = load<W>(by + i);
    for (u32 j = 0; j < W; ++j) put(own.at + j, wide(own.at[j]) + wide(open.at[j]) * wide(more.at[j]));
    store(y + i, own);
  }
}

template <typename T> static __device__ void gated(const T *x, const T *gate, const T *by, T *y, u32 n, u32 per) {
  size_t row = blockIdx.x;
  x += row * n, by += row * n, y += row * n, gate += row / per * n;
  if (fits16(n, x, gate, by, (const T *)y)) open_gate<16 / sizeof(T)>(x, gate, by, y, n);
  else open_gate<1>(x, gate, by, y, n);
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

// y += bias, in each row
template <u32 W, typename T> static __device__ void add_row(T *y, const T *bias, u32 n) {
  for (u32 i = threadIdx.x * W; i < n; i += blockDim.x * W) {
    Pack<T, W> own = load<W>(y + i), more = load<W>(bias + i);
    for (u32 j = 0; j < W; ++j) put(own.at + j, wide(own.at[j]) + wide(more.at[j]));
    store(y + i, own);
  }
}

template <typename T> static __device__ void add_bias(T *y, const T *bias, u32 n) {
  y += (size_t)blockIdx.x * n;
  if (fits16(n, (const T *)y, bias)) add_row<16 / sizeof(T)>(y, bias, n);
  else add_row<1>(y, bias, n);
}

typedef unsigned long long u64;
// Numbers one after the other, W at a time: from the first of this thread on, and how many lie between its packs.
#define STRIDED(i, n, W)                                                                                               \
  for (u64 i = (blockIdx.x * (u64)blockDim.x + threadIdx.x) * W; i < n; i += (u64)gridDim.x * blockDim.x * W)

// y = a + b
template <u32 W, typename T> static __device__ void add(const T *a, const T *b, T *y, u64 n) {
  STRIDED(i, n, W) {
    Pack<T, W> own = load<W>(a + i), more = load<W>(b + i);
    for (u32 j = 0; j < W; ++j) put(own.at + j, wide(own.at[j]) + wide(more.at[j]));
    store(y + i, own);
  }
}

template <typename T> static __device__ void sum(const T *a, const T *b, T *y, u64 n) {
  if (fits16(n, a, b, (const T *)y)) add<16 / sizeof(T)>(a, b, y, n);
  else add<1>(a, b, y, n);
}

// The sum of squares of every gridDim.x-th stretch of numbers: one number a block.
template <typename T> static __device__ void square_sums(const T *x, float *sums, u64 n) {
  float2 sum = {0.0f, 0.0f};
  STRIDED(i, n, 1) {
    float it = wide(x[i]);
    sum.x += it * it;
  }
  sum = over_block(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum.x;
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

template <u32 W, typename T> static __device__ void gates(const T *x, T *y, u32 n, float a, float b) {
  STRIDED(i, n, W) {
    Pack<T, W> own = load<W>(x + i);
    for (u32 j = 0; j < W; ++j) {
      float it = wide(own.at[j]);
      put(own.at + j, it * share(it, a, b));
    }
    store(y + i, own);
  }
}

template <typename T> static __device__ void gate(const T *x, T *y, u32 n, float a, float b) {
  if (fits16(n, x, (const T *)y)) gates<16 / sizeof(T)>(x, y, n, a, b);
  else gates<1>(x, y, n, a, b);
}

// s + x·s·(1 − s)·(a + 3·b·x²)
template <u32 W, typename T>
static __device__ void gates_back(const T *x, const T *g, T *dx, u32 n, float a, float b) {
  STRIDED(i, n, W) {
    Pack<T, W> own = load<W>(x + i), grad = load<W>(g + i);
    for (u32 j = 0; j < W; ++j) {
      float it = wide(own.at[j]), s = share(it, a, b);
      put(own.at + j, wide(grad.at[j]) * (s + it * s * (1.0f - s) * (a + 3.0f * b * it * it)));
    }
    store(dx + i, own);
  }
}

template <typename T> static __device__ void gate_back(const T *x, const T *g, T *dx, u32 n, float a, float b) {
  if (fits16(n, x, g, (const T *)dx)) gates_back<16 / sizeof(T)>(x, g, dx, n, a, b);
  else gates_back<1>(x, g, dx, n, a, b);
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
  extern "C" __global__ void add_bias_##TYPE(T *y, const T *bias, u32 n) { add_bias(y, bias, n); }                     \
  extern "C" __global__ void sum_##TYPE(const T *a, const T *b, T *y, u64 n) { sum(a, b, y, n); }       \
  extern "C" __global__ void square_sums_##TYPE(const T *x, float *sums, u64 n) {                       \
    square_sums(x, sums, n);                                                                                           \
  }                                                                                                                    \
  extern "C" __global__ void column_sums_##TYPE(const T *g, float *sums, u32 n, u32 per) {                             \
    column_sums(g, sums, n, per);                                                                                      \
  }                                                                                                                    \
  extern "C" __global__ void gate_##TYPE(const T *x, T *y, u32 n, float a, float b) { gate(x, y, n, a, b); }           \
  extern "C" __global__ void gate_back_##TYPE(const T *x, const T *g, T *dx, u32 n, float a, float b) {                \
    gate_back(x, g, dx, n, a, b);                                                                                      \
  }

ALL(f32, float)
ALL(bf16, u16)
