"""Find distillation campaigns in LLM API traffic while they run."""

from pathlib import Path

from streamdetect.stale_kernels import forget_stale_kernels

__version__ = "0.1.0"

forget_stale_kernels(Path(__file__).parent)
