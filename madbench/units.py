"""Numbers as messages write them."""


def format_bytes(n: float) -> str:
    """ "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.3g} GiB"
