"""The passes, one file each, in the order that pipeline.py gives them."""
