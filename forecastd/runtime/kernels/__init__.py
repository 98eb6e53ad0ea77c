"""The CPU kernels: one call steps a micro-batch, compiled by numba, without torch and BLAS."""
