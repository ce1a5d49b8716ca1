"""What the backends that go through LLVM share."""
