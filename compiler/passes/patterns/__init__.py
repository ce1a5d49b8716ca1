"""The rules of `simplify`, a file for each family of operations."""
