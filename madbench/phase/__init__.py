"""How much synthetic data is safe: effective sample size over (n_r, n_s, λ), `madbench phase` (PROTOCOL, §5 and §7).

settings.py   the config, its checks, and the grid of cells
gaussian.py   Gaussian loops on their sufficient statistics: no sample is ever drawn
trained.py    any other family: the same loops as jobs of `madbench run`
real_only.py  the distance of a purely real fit against its size, and that curve inverted
job.py        config -> cells -> distances -> effective sizes -> phase.csv
"""

from madbench.phase.settings import base

__all__ = ["base"]
