"""Shares of one job, made by `madbench run --shard=I/N` in workdirs of their own, as the one result that they are."""

import dataclasses
import pathlib
from typing import Any

from madbench.results import Result, ResultError, place, what

_NAMED = 3  # workdirs that a name spells out


def unite(results: list[Result]) -> list[Result]:
    """The results, with all shares of one job in the place of its first.

    The shares that are not there are missing: their runs count as unfinished, and the tables say so.

    Raises:
      ResultError: shares of different jobs, or of different splits of one; a share that is there twice, or beside the
        whole job; shares that were measured differently; rows of a share that belong to another; one line.
    """
    shares = [r for r in results if r.shares]
    if not shares:
        return results
    first = shares[0]
    for other in shares[1:]:
        _compare(first, other)
    for whole in results:
        if not whole.shares and what(whole.config) == what(first.config):
            raise ResultError(f"{whole.path} holds the whole job of which {first.path} is a share: leave one out")
    _check_rows(shares)
    united = dataclasses.replace(
        first,
        path=_name([r.path for r in shares]),
        rows=[row for r in shares for row in r.rows],
        shares=tuple(sorted(i for r in shares for i in r.shares)),
    )
    return [united if r is first else r for r in results if r is first or not r.shares]


def _compare(first: Result, other: Result) -> None:
    if what(other.config) != what(first.config):
        raise ResultError(
            f"{other.path} is a share of another job than {first.path}: make a table of each job's shares"
        )
    if other.split != first.split:
        raise ResultError(
            f"{other.path} is one share of {other.split} and {first.path} one of {first.split}: leave one split out"
        )
    for name, read in {
        "data": lambda r: r.environment.get("dataset"),
        "features": lambda r: r.reference.get("features"),
        "metrics": lambda r: r.reference.get("metrics"),
        "cells": lambda r: r.reference.get("cells"),
    }.items():
        if read(other) != read(first):
            raise ResultError(f"{other.path} has other {name} than {first.path}, so their rows do not make one table")


def _check_rows(shares: list[Result]) -> None:
    """Each run is in the share to which it belongs, and in no other."""
    seen: dict[Any, pathlib.Path] = {}
    for result in shares:
        (i,) = result.shares
        if i in seen:
            raise ResultError(f"{result.path} and {seen[i]} both hold share {i} of {result.split}: leave one out")
        seen[i] = result.path
        own = set(_runs(result)[i - 1 :: result.split])
        for row in result.rows:
            run = place(row)[:3]
            if run not in own:
                raise ResultError(f"{result.path} holds rows of another share: {run[0]}, λ = {run[1]:g}, seed {run[2]}")


def _runs(result: Result) -> list[tuple[str, float, int]]:
    """The whole grid in its order: cells, then seeds."""
    cells = result.reference["cells"]
    return [(cell["loop"], cell["bias"], seed) for cell in cells for seed in result.config["seeds"]]


def _name(paths: list[pathlib.Path]) -> pathlib.Path:
    """What stands for the workdirs in a table."""
    names = [path.name for path in paths]
    return paths[0].with_name(" + ".join(names if len(names) <= _NAMED else [names[0], "…", names[-1]]))
