"""PyTorch files read without PyTorch: those that it wrote, and those that nobody should open.

The two files under tests/data were written by PyTorch 2.15, the second with `_use_new_zipfile_serialization=False`:

    base = torch.arange(12.0).reshape(3, 4)
    state = torch.nn.PReLU().state_dict()
    state["count"] = torch.tensor(7)
    state["transposed"], state["column"], state["parameter"] = base.T, base[:, 1], torch.nn.Parameter(base[2])
    state["bfloat16"], state["empty"] = torch.tensor([1.5, -2.0]).bfloat16(), torch.zeros(0, 3)
    torch.save(state, path)
"""

import contextlib
import io
import os
import pathlib
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from madbench.errors import UserError
from madbench.metrics.features import torch_file

DATA = pathlib.Path(__file__).parent / "data"
FORMATS = ("zip", "legacy")
BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
EXPECTED = {
    "weight": np.array([0.25], np.float32),
    "count": np.array(7),
    "transposed": BASE.T,
    "column": BASE[:, 1],
    "parameter": BASE[2],
    "bfloat16": np.array([1.5, -2.0], np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def stored(form):
    return DATA / f"state_dict_{form}.pth"


@pytest.mark.parametrize("form", FORMATS)
def test_both_formats_of_pytorch_are_read(form):
    found = torch_file.read(stored(form))
    assert list(found) == list(EXPECTED)
    for name, value in EXPECTED.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    assert torch_file.shapes(stored(form)) == {name: value.shape for name, value in EXPECTED.items()}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", FORMATS)
def test_files_of_an_installed_pytorch_are_read(form, protocol, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "state.pth"
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5), torch.nn.BatchNorm2d(4))
    torch.save(net.state_dict(), path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "zip")
    found = torch_file.read(path)
    assert list(found) == list(net.state_dict())
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(found[name], value.numpy())


class Global:
    """Pickled as the bare name of something in a module, which need not exist here."""

    def __init__(self, module, name, *arguments):
        self.name = (module, name)
        self.arguments = arguments


class Persistent(tuple):
    """Pickled as a persistent id."""


class Pickler(pickle._Pickler):
    """Writes what a hostile hand could write: names of modules that are not here, and calls of them."""

    def persistent_id(self, value):
        return tuple(value) if isinstance(value, Persistent) else None

    def save_global_name(self, value):
        module, name = value.name
        self.write(b"c" + f"{module}\n{name}\n".encode())
        if value.arguments:
            self.save(value.arguments)
            self.write(b"R")

    dispatch = pickle._Pickler.dispatch | {Global: save_global_name}


def dumps(value):
    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


def storage(size=4, key="0", kind="FloatStorage", tail=()):
    return Persistent(("storage", Global("torch", kind), key, "cpu", size, *tail))


def tensor(source=None, offset=0, shape=(4,), strides=(1,), function="_rebuild_tensor_v2"):
    source = storage() if source is None else source
    return Global("torch._utils", function, source, offset, shape, strides, False, OrderedDict())


def archive(path, top, numbers=b"\0" * 16, compression=zipfile.ZIP_STORED, byteorder=b"little"):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", top if isinstance(top, bytes) else dumps(top))
        file.writestr("archive/byteorder", byteorder)
        file.writestr("archive/data/0", numbers)
    return path


def refused(path):
    with pytest.raises(UserError) as caught:
        torch_file.read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < len(str(path)) + 200
    return message


def test_the_forger_can_also_write_an_honest_file(tmp_path):
    found = torch_file.read(archive(tmp_path / "a.pth", {"w": tensor(shape=(2, 2), strides=(2, 1))}))
    np.testing.assert_array_equal(found["w"], np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "FloatStorage"),
        ("collections", "Counter"),
        ("torch.storage", "_load_from_bytes"),
    ],
)
def test_nothing_that_a_pickle_names_is_run(module, name, tmp_path):
    witness = tmp_path / "witness"
    hostile = Global(module, name, f"touch {witness}")
    for top in (hostile, {"w": hostile}, {"w": Global("collections", "OrderedDict", [hostile])}, {"w": [hostile]}):
        assert f"it names {module}.{name}" in refused(archive(tmp_path / "a.pth", top))
    assert not witness.exists()


def test_names_from_a_file_reach_no_terminal_as_they_are(tmp_path):
    whole = b"\x80\x02}X\x0a\x00\x00\x00ab\x1b[2J\r\nyzK\x01s."
    message = refused(archive(tmp_path / "a.pth", whole))
    assert message.isprintable()
    message = refused(archive(tmp_path / "a.pth", b"\x80\x02cos\x1b[2J\rx\nsystem\x07\n."))
    assert message.isprintable()
    assert "it names os?[2J?x.system?" in message


def test_pythons_own_malicious_pickle_is_refused(tmp_path):
    witness = tmp_path / "witness"

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {witness}",)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        whole = pickle.dumps({"w": Hostile()}, protocol)
        assert "state dict" in refused(archive(tmp_path / "a.pth", whole))
        (tmp_path / "b.pth").write_bytes(whole)
        assert "state dict" in refused(tmp_path / "b.pth")
    assert not witness.exists()


def test_instructions_that_make_objects_are_refused(tmp_path):
    for whole in (b"\x80\x02(ios\nsystem\n.", b"\x80\x02(cos\nsystem\no.", b"\x80\x02\x82\x01.", b"\x80\x02Vx\n."):
        assert "state dict" in refused(archive(tmp_path / "a.pth", whole))


OrderedDictOf = lambda *arguments: Global("collections", "OrderedDict", *arguments)
SIZES = {
    "longer than its storage": tensor(shape=(5,)),
    "beyond by its offset": tensor(offset=1),
    "beyond by its strides": tensor(shape=(2,), strides=(4,)),
    "repeated for ever": tensor(shape=(2**39,), strides=(0,)),
    "negative": tensor(shape=(-1,)),
    "negative offset": tensor(offset=-1),
    "negative stride": tensor(shape=(2,), strides=(-1,)),
    "truth for a number": tensor(shape=(True,)),
    "huge dimensions": tensor(shape=(2**200,)),
    "many dimensions": tensor(shape=(1,) * 9, strides=(1,) * 9),
    "fewer strides": tensor(shape=(2, 2)),
    "huge storage": tensor(storage(size=2**39)),
    "larger than the file": tensor(storage(size=2000), shape=(2000,)),
    "shorter than its record": tensor(storage(size=3), shape=(3,)),
    "no storage": tensor(source=7),
    "no persistent id": Global("torch._utils", "_rebuild_tensor_v2", 1, 2, 3, 4),
    "too few arguments": Global("torch._utils", "_rebuild_tensor_v2", storage()),
    "an unknown kind": tensor(storage(kind="_rebuild_tensor_v2")),
    "a key that is not there": tensor(storage(key="7")),
    "a key outside": tensor(storage(key="../0")),
    "a view of a storage": tensor(storage(tail=(("0", 0, 1),))),
    "a parameter of nothing": Global("torch._utils", "_rebuild_parameter", 3, True, OrderedDict()),
}


@pytest.mark.parametrize("case", SIZES)
def test_tensors_that_do_not_fit_the_file_are_refused(case, tmp_path):
    refused(archive(tmp_path / "a.pth", {"w": SIZES[case]}))


def test_tensors_that_disagree_about_their_storage_are_refused(tmp_path):
    top = {"a": tensor(), "b": tensor(storage(size=2, kind="DoubleStorage"), shape=(2,))}
    assert "disagree" in refused(archive(tmp_path / "a.pth", top))


@pytest.mark.parametrize("top", [[tensor()], tensor(), {"epoch": 3}, {"model": {"w": tensor()}}, {3: tensor()}, None])
def test_what_is_no_dict_of_tensors_is_refused(top, tmp_path):
    message = refused(archive(tmp_path / "a.pth", top))
    assert "state_dict" in message or "dict of tensors" in message


def test_compressed_and_big_endian_archives_are_refused(tmp_path):
    top = {"w": tensor()}
    assert "compressed" in refused(archive(tmp_path / "a.pth", top, compression=zipfile.ZIP_DEFLATED))
    assert "big-endian" in refused(archive(tmp_path / "b.pth", top, byteorder=b"big"))


def test_a_huge_memo_or_length_costs_nothing(tmp_path):
    """Instructions with numbers of 32 bits, which make Python's own reader ask for gigabytes."""
    refused(archive(tmp_path / "a.pth", b"\x80\x02}r\xff\xff\xff\xff."[:-1]))
    refused(archive(tmp_path / "b.pth", b"\x80\x02X\xff\xff\xff\x7fabc."))


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_cut_anywhere_or_with_a_wrong_byte_is_refused_or_read(form, tmp_path):
    whole = stored(form).read_bytes()
    path = tmp_path / "cut.pth"
    for end in range(0, len(whole) - 1, 61):
        path.write_bytes(whole[:end])
        refused(path)
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(UserError):  # anything else fails the test
            assert all(isinstance(value, np.ndarray) for value in torch_file.read(path).values())


def test_the_old_format_is_checked_like_the_new(tmp_path):
    path = tmp_path / "a.pth"
    start = [torch_file.MAGIC, torch_file.PROTOCOL, {"little_endian": True}]

    def write(begin, top, keys, numbers):
        path.write_bytes(b"".join(map(dumps, (*begin, top, keys))) + numbers)
        return path

    four = struct.pack("<q4f", 4, 1, 2, 3, 4)
    top = {"w": tensor(storage(tail=(None,)))}
    assert torch_file.read(write(start, top, ["0"], four))["w"].tolist() == [1, 2, 3, 4]
    assert "big-endian" in refused(write([*start[:2], {"little_endian": False}], top, ["0"], four))
    assert "begins like no file" in refused(write([1, 2, {}], top, ["0"], four))
    assert "list of storages" in refused(write(start, top, ["1"], four))
    assert "list of storages" in refused(write(start, top, 3, four))
    assert "instead of 4" in refused(write(start, top, ["0"], struct.pack("<q4f", 2**40, 1, 2, 3, 4)))
    assert "ends too early" in refused(write(start, top, ["0"], four[:-4] + b""))
    assert "os.system" in refused(write(start, {"w": Global("os", "system", "true")}, ["0"], four))


def test_a_missing_file_or_a_folder_is_one_line(tmp_path):
    assert "No such file" in refused(tmp_path / "nothing.pth")
    refused(tmp_path)


def test_the_stored_files_are_small():
    assert all(stored(form).stat().st_size < 3000 for form in FORMATS)
