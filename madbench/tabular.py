"""Flat rows as CSV."""

import csv
import io
from typing import Any


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Flat rows as CSV, columns in the order of first appearance, null as an empty cell."""
    columns = list(dict.fromkeys(name for r in rows for name in r))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in r.items()} for r in rows)
    return out.getvalue()
