"""The CPU backend: any target of LLVM."""
