"""Hundreds of submissions that chance has damaged: `check` never fails itself, and never lets one pass.

Two kinds: the manifest's hashes as they were, and hashes and README.md made anew, as a forger would. Left out by
construction is what nothing depends on: a text for people that becomes another such text.
"""

import contextlib
import json
import random
import shutil

import pytest
import submissions

from madbench.leaderboard import checks

DEEP = json.loads("[" * 200 + "]" * 200)
NUMBERS = [-1, 10**30, 2**63, 1e308, 5e-324, float("nan"), float("inf"), 0.5, 1e-9]
TEXTS = [
    "",
    "1",
    "NaN",
    "../../x",
    "/etc/passwd",
    "<script>alert(1)</script>",
    "\u202e",
    "a\nb",
    "\x00",
    "x" * 300,
    "\ud800",
]
OTHERS = [None, True, False, [], {}, [None], {"a": DEEP}, DEEP, {"__proto__": 1}]
HOSTILE = NUMBERS + TEXTS + OTHERS
FREE = {
    "contact",
    "url",
    "hardware",
    "note",
    "platform",
    "processor",
    "kind",
    "name",
    "version",
    "bias_meaning",
}  # texts for people
TOOLS = {"python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn"}
LISTED = ("config.json", "environment.json", "reference.json", "metrics.jsonl", "timing.jsonl")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        submissions.install(patch, tmp_path_factory.mktemp("tasks"))
        yield submissions.packed(
            tmp_path_factory.mktemp("honest") / "entry", note="a note", contact="me", url="http://a.b"
        )


def places(value, path=()):
    """The path of every value within a JSON value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def read(path):
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def write(path, value):
    lines = value if path.suffix == ".jsonl" else [value]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def is_free(path, old, new):
    """Whether a text for people becomes another: legal, and nobody's business."""
    return isinstance(new, str) and isinstance(old, str) and path[-1] in FREE | TOOLS


def replace(rng, entry):
    name = rng.choice(("submission.json", *LISTED))
    content = read(entry / name)
    path = rng.choice(list(places(content)))
    old = at(content, path)
    new = rng.choice([each for each in HOSTILE if each != old and not is_free(path, old, each)])
    at(content, path[:-1])[path[-1]] = new
    write(entry / name, content)
    return f"{name}: {path} = {str(new)[:50]!r}"


def delete(rng, entry):
    name = rng.choice(("submission.json", *LISTED))
    content = read(entry / name)
    path = rng.choice(list(places(content)))
    # one of the packages and of the numbers of a plan: as many as the madbench that wrote it knew
    if path[:-1] in (("versions",), ("plan",)) and path[-1] != "madbench":
        path = path[:-1]
    del at(content, path[:-1])[path[-1]]
    write(entry / name, content)
    return f"{name}: without {path}"


def add(rng, entry):
    name = rng.choice(("submission.json", *LISTED))
    content = read(entry / name)
    inner = [path for path in places(content) if isinstance(at(content, path), dict)]
    inner = [path for path in inner if path not in (("versions",), ("plan",))] or [()]
    at(content, rng.choice(inner))[rng.choice(["x", "__class__", "../x", "\u202e", ""])] = rng.choice(HOSTILE)
    write(entry / name, content)
    return f"{name}: one more"


def twice(rng, entry):
    """A line twice, two lines changed about, a name twice."""
    name = rng.choice(LISTED)
    lines = (entry / name).read_text().splitlines(keepends=True)
    where = rng.randrange(len(lines))
    (entry / name).write_text("".join([*lines[:where], lines[where], *lines[where:]]))
    return f"{name}: line {where} twice"


def flip(rng, entry):
    name = rng.choice([str(p.relative_to(entry)) for p in entry.rglob("*") if p.is_file()])
    data = bytearray((entry / name).read_bytes())
    where = rng.randrange(len(data))
    data[where] ^= 1 << rng.randrange(8)
    (entry / name).write_bytes(data)
    return f"{name}: a bit of byte {where}"


def truncate(rng, entry):
    name = rng.choice([str(p.relative_to(entry)) for p in entry.rglob("*") if p.is_file()])
    data = (entry / name).read_bytes().rstrip()
    keep = rng.randrange(len(data))
    (entry / name).write_bytes(data[:keep])
    return f"{name}: {keep} bytes of it"


def splice(rng, entry):
    name = rng.choice([str(p.relative_to(entry)) for p in entry.rglob("*") if p.is_file()])
    data = (entry / name).read_bytes()
    where = rng.randrange(len(data))
    noise = rng.choice([rng.randbytes(5), b"\0" * 100, b"[" * 5000, b'"', b"\xff", b"}\n{", b"1e999", b"\r\n\r\n{}"])
    (entry / name).write_bytes(data[:where] + noise + data[where:])
    return f"{name}: {noise[:8]!r} at {where}"


def remove(rng, entry):
    files = sorted(p for p in entry.rglob("*") if p.is_file())
    path = rng.choice(files)
    path.unlink()
    return f"{path.name} removed"


def more(rng, entry):
    name = rng.choice(
        ["x", "samples/x.npz", "config.json.bak", "a/b/c", ".hidden", "a b\n", "metrics.jsonl.gz", "x.py"]
    )
    (entry / name).parent.mkdir(exist_ok=True, parents=True)
    (entry / name).write_bytes(rng.randbytes(rng.randrange(2000)))
    return f"{name!r} added"


def link(rng, entry):
    path = rng.choice(sorted(entry.rglob("*")))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(rng.choice(["/etc/passwd", "..", "/dev/null", "nowhere"]))
    return f"{path.name} is a link"


def swap(rng, entry):
    files = sorted(p for p in entry.rglob("*") if p.is_file())
    a, b = rng.sample(files, 2)
    data = a.read_bytes(), b.read_bytes()
    a.write_bytes(data[1])
    b.write_bytes(data[0])
    return f"{a.name} and {b.name} changed about"


DAMAGE = (replace, replace, replace, delete, add, twice, flip, flip, truncate, splice, remove, more, link, swap)
STRUCTURAL = (replace, replace, replace, delete, add, twice, truncate, remove, more, link)  # survive no new hashes


def content(entry):
    """Of all files, links as such."""
    files = {str(p.relative_to(entry)): p.is_symlink() or p.read_bytes() for p in entry.rglob("*") if p.is_file()}
    with contextlib.suppress(ValueError, KeyError, TypeError):
        files["submission.json"] = json.loads(files["submission.json"])
    return files


def restore(honest, entry):
    """Puts back what is not as it was, and nothing else: a copy of the whole tree for each damage costs more."""
    entry.mkdir(exist_ok=True)
    for path in sorted(entry.rglob("*"), reverse=True):  # what lies in a folder before the folder
        there = honest / path.relative_to(entry)
        if path.is_symlink() or not there.exists() or path.is_dir() != there.is_dir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for there in sorted(honest.rglob("*")):
        path = entry / there.relative_to(honest)
        if there.is_dir():
            path.mkdir(exist_ok=True)
        elif not path.exists() or path.read_bytes() != there.read_bytes():
            path.write_bytes(there.read_bytes())


def judge(honest, entry, damage, seed, redo):
    rng = random.Random(seed)
    restore(honest, entry)
    what = rng.choice(damage)(rng, entry)
    with contextlib.suppress(ValueError, OSError, TypeError, AttributeError, IndexError):  # what is no JSON any more
        if rng.random() < 0.3:
            what += f", and {rng.choice(damage)(rng, entry)}"
    if redo:
        with contextlib.suppress(ValueError, OSError, TypeError, KeyError, AttributeError):  # no manifest any more
            submissions.redo_hashes(entry)
        if content(entry) == content(honest):  # what was damaged was a hash
            return what, set()
    found = checks.run(entry)
    assert [finding.name for finding in found] == checks.names(), what
    assert all(finding.message.isprintable() and len(finding.message) <= 400 for finding in found), what
    assert not all(finding.ok for finding in found), what
    checks.clashes([honest, entry])
    return what, {finding.name for finding in found if not finding.ok and "not checked" not in finding.message}


@pytest.mark.parametrize("redo", [False, True])
def test_no_damaged_submission_passes_and_none_breaks_the_checks(honest, tmp_path, redo):
    assert all(finding.ok for finding in checks.run(honest))
    entry = shutil.copytree(honest, tmp_path / "entry")
    before = sorted(p.name for p in tmp_path.iterdir())
    failed = set()
    for seed in range(200):
        _, names = judge(honest, entry, STRUCTURAL if redo else DAMAGE, seed, redo)
        failed |= names
    assert failed >= {"links", "manifest", "files", "json", "schema", "config"}  # the damage is of many kinds
    assert ("hashes" in failed) != redo
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    restore(honest, entry)
    assert all(finding.ok for finding in checks.run(entry))


def test_bits_of_arrays_whose_hashes_are_made_anew(honest, tmp_path):
    """What is left may be an array; then it is of the right form. A crash is what is looked for."""
    entry = shutil.copytree(honest, tmp_path / "entry")
    for seed in range(100):
        rng = random.Random(seed)
        restore(honest, entry)
        path = rng.choice(sorted(entry.rglob("*.npz")))
        data = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 3, 30))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        submissions.redo_hashes(entry)
        found = {finding.name for finding in checks.run(entry) if not finding.ok}
        assert found <= {"samples"}
