"""How many rows of a matrix are in memory as float32 at a time, for everything that streams over a store."""

BLOCK_BYTES = 32 << 20
"""Large enough for GEMM, small beside the 512 MB that a run may take."""


def block_rows(dim: int) -> int:
    """Rows of width `dim` in one block."""
    return max(1, BLOCK_BYTES // (4 * dim))
