"""The typed tensor SSA and the kernel form."""
