"""madbench: a JAX benchmark suite for self-consuming generative models."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
INIT = (HERE / "madbench/__init__.py").read_text()
VERSION, URL = (re.search(rf'^{name} = "(.+)"', INIT, re.MULTILINE)[1] for name in ("__version__", "REPOSITORY"))

setup(
    name="madbench",
    version=VERSION,
    description="How much synthetic data is safe? A JAX benchmark suite for self-consuming generative models.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    url=URL,
    python_requires=">=3.12",
    packages=find_packages(include=["madbench", "madbench.*"]),
    package_data={
        "madbench": [
            "metrics/features/bundled/*.npz",
            "leaderboard/tasks/*.json",
            "leaderboard/templates/*",
            "report/templates/*",
        ],
    },
    entry_points={"console_scripts": ["madbench = madbench.cli:main"]},
    install_requires=[
        "absl-py>=2.3",
        "array_record>=0.8",
        "flax>=0.12",
        "grain>=0.2.15",
        "importlib_resources>=6.5",  # tensorflow-datasets needs it and does not say so
        "jax>=0.11.2",  # 0.10.2 miscompiles a vmapped matvec on CPU (jax#39103), 0.11.1 updates in loops (jax#40101)
        "jinja2>=3.1.6",
        "matplotlib>=3.10",
        "ml-collections>=1.1",
        "numpy>=2.2",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.12",
        "pillow>=11",
        "psutil>=6",
        "rich>=14",
        "safetensors>=0.5",
        "scikit-learn>=1.6",
        "scipy>=1.15",
        "tensorflow-datasets>=4.9.9",
        "threadpoolctl>=3",
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "prepare": ["tensorflow"],  # preparing TFDS image sets needs it; reading them does not
        "tensorboard": ["tensorboardX>=2.6.4"],
        "test": [
            "axe-selenium-python>=3",  # ships axe-core's script
            "ipykernel>=7",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "prdc>=0.2",
            "pytest>=8",
            "pytest-cov>=6",
            "pytest-xdist>=3.6",
            "pyyaml>=6",
            "ruff>=0.12",
            "selenium>=4.30",
            "tensorboardX>=2.6.4",
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
