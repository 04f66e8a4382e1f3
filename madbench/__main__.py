"""`python -m madbench` is the command `madbench`."""

import sys

from madbench.cli import main

sys.exit(main())
