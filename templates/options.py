"""Compiler options every variant is built with; the cache's keys contain them."""

# CuTe marks its functions __host__ __device__, which NVRTC accepts with -default-device only.
# One CCCL header unrolls a list of types 100 times over: 0.7 s unless told that 10 will do.
OPTIONS = ("-std=c++17", "-default-device", "-D_CCCL_META_UNROLL_LIMIT=10")
