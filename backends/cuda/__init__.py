"""The CUDA backend: kernels as PTX, driven through the CUDA driver API."""
