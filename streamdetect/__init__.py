"""Find distillation campaigns in LLM API traffic while they run."""

__version__ = "0.1.0"
