// AdamW's step of a state [3, n] in f32 (values, means of the gradients, means of their squares), given gradients [n].
// The same arithmetic as `Update::one`. No header is needed, so that it compiles where it runs.

typedef unsigned int u32;
typedef unsigned short u16;

static __device__ float wide(float x) { return x; }
static __device__ float wide(u16 bf16) { return __uint_as_float((u32)bf16 << 16); }

#define ADAMW(NAME, TYPE)                                                                                              \
  extern "C" __global__ void NAME(float *state, const TYPE *gradients, u32 n, float beta1, float rest1, float beta2,   \
                                  float rest2, float rate, float root, float eps, float keep, float scale) {           \
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {       \
      float g = wide(gradients[i]) * scale;                                                                            \
      float m = beta1 * state[(size_t)n + i] + rest1 * g;                                                              \
      float v = beta2 * state[2 * (size_t)n + i] + rest2 * g * g;                                                      \
      state[(size_t)n + i] = m;                                                                                        \
      state[2 * (size_t)n + i] = v;                                                                                    \
      state[i] = state[i] * keep - rate * m / (sqrtf(v) * root + eps);                                                 \
    }                                                                                                                  \
  }

ADAMW(adamw_f32, float)
ADAMW(adamw_bf16, u16)
