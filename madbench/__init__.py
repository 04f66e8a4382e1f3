"""madbench: the benchmark of self-consuming generative models (model autophagy disorder, arXiv 2307.01850)."""

__version__ = "0.1.0"
REPOSITORY = "https://github.com/madbench/madbench"
