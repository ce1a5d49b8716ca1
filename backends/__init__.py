"""The backends: scheduled kernels to native code."""
