// What a GPU can do at best: kernels that only read, only copy, or only multiply.
// Built by scripts/probe_gpu.py with NVRTC.

// Loads in flight per thread: enough bytes on the way to hide DRAM's latency on every card.
constexpr int kUnroll = 8;

extern "C" __global__ void read_only(uint4 const* in, long long count, unsigned* sink) {
  long long const step = (long long)gridDim.x * blockDim.x;
  unsigned seen = 0;
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  for (; i + (kUnroll - 1) * step < count; i += kUnroll * step) {
    uint4 v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) v[u] = __ldg(in + i + u * step);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) seen ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  // Never true for the random data it is given, but the compiler cannot know.
  if (seen == 0xdeadbeefu) *sink = seen;
}

extern "C" __global__ void copy(uint4 const* in, uint4* out, long long count) {
  long long const step = (long long)gridDim.x * blockDim.x;
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  for (; i + (kUnroll - 1) * step < count; i += kUnroll * step) {
    uint4 v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) v[u] = __ldg(in + i + u * step);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) out[i + u * step] = v[u];
  }
}

// Independent accumulators per warp: the MMA's latency is covered from within one warp.
constexpr int kChains = 8;

// PTX ISA, "Warp-level matrix fragment for mma.m16n8k8": A is two registers a lane, B is one.
__device__ void mma(float (&d)[4], unsigned const (&a)[2], unsigned b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
}

__device__ void mma(unsigned (&d)[2], unsigned const (&a)[2], unsigned b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3}, {%4}, {%0,%1};"
      : "+r"(d[0]), "+r"(d[1])
      : "r"(a[0]), "r"(a[1]), "r"(b));
}

// Adds a product and takes it away again, so that sums stay small and bits keep toggling.
// Two MMAs per chain and iteration.
template <class Register, int kRegisters>
__device__ void multiply(unsigned const* operands, Register* sink, int iterations) {
  int const lane = threadIdx.x % 32;
  unsigned a[2] = {operands[lane], operands[32 + lane]};
  unsigned const b = operands[64 + lane], minus_b = b ^ 0x80008000u;
  Register d[kChains][kRegisters] = {};
  for (int i = 0; i < iterations; ++i) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) mma(d[c], a, b);
#pragma unroll
    for (int c = 0; c < kChains; ++c) mma(d[c], a, minus_b);
  }
  Register seen = 0;
  for (int c = 0; c < kChains; ++c)
    for (int r = 0; r < kRegisters; ++r) seen += d[c][r];
  if (seen == Register(12345)) *sink = seen;
}

extern "C" __global__ void mma_f32(unsigned const* operands, float* sink, int iterations) {
  multiply<float, 4>(operands, sink, iterations);
}

extern "C" __global__ void mma_f16(unsigned const* operands, unsigned* sink, int iterations) {
  multiply<unsigned, 2>(operands, sink, iterations);
}

extern "C" __global__ void empty() {}
