"""Bad strategies fail early: exit code 2, one line that says what is wrong, and nothing written wherever possible."""

import json
import sys
import textwrap

import pytest

from madbench import cli, strategies, treating
from madbench.errors import UserError
from madbench.models.family import Given
from madbench.strategies import HOOKS, STRATEGIES, Strategy, describe

CONFIG = """
from madbench.config import base

def get_config(family="gaussian"):
    config = base("gaussian" if family in ("gaussian", "kde") else "digits", family)
    config.task, config.metrics.features, config.n_grid = "toy", "raw", 0
    config.metrics.names = ("fd",)
    config.generations, config.seeds, config.n_initial = 3, 1, 40
    if family in ("gaussian", "kde"):
        config.data.dimension, config.data.n_reference = 2, 40
    else:
        config.model.steps, config.model.batch_size = 50, 16
    if family == "diffusion":
        config.model.width = 8
    return config
"""
HEADER = """
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from madbench.errors import UserError
from madbench.samples import Samples
from madbench.strategies import Strategy

frozen = dataclasses.dataclass(frozen=True, kw_only=True)
"""
LABELLED = Given((2,), 4)


def own(body="", *, decorator="@frozen", base="Strategy"):
    """A module with a strategy of this body."""
    body = textwrap.indent(textwrap.dedent(body).strip() or "pass", "    ")
    return f"{HEADER}\n\n{decorator}\nclass Mine({base}):\n{body}\n"


def hook(name, returns, more=""):
    """A body whose one hook returns an expression."""
    takes = {
        "init": "key, real, member",
        "weigh": "is_real, n_real, n_synthetic",
        "select": "key, candidates, member, state",
        "extrapolate": "fitted, tuned",
        "guide": "fitted, tuned, x, level, state",
    }[name]
    return f"{more}\ndef {name}(self, {takes}):\n    return {returns}\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes `own_strategy` of a text, where Python finds it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "own_strategy", None)  # so that what is imported under this name goes away again

    def write(text):
        (tmp_path / "own_strategy.py").write_text(text)
        sys.modules.pop("own_strategy", None)

    return write


@pytest.fixture
def run(tmp_path, capsys):
    """A run from the command line: (exit code, standard error)."""
    (tmp_path / "toy.py").write_text(CONFIG)

    def start(strategy, *flags, family="gaussian"):
        config = f"--config={tmp_path / 'toy.py'}:{family}"
        code = cli.main(
            ["madbench", "run", config, f"--workdir={tmp_path / 'work'}", "--config.strategy=" + strategy, *flags]
        )
        return code, capsys.readouterr().err

    return start


@pytest.fixture
def refused(run, tmp_path):
    """A run that must be refused before anything is written: its one line."""

    def start(*arguments, **options):
        code, err = run(*arguments, **options)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert err.startswith("madbench: ")
        assert "Traceback" not in err
        assert not (tmp_path / "work").exists()
        return err

    return start


# ------------------------------------------------------------------------------------------- names, settings, imports


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_suite_s_own_pass_their_checks(name):
    found = strategies.build(name, LABELLED)
    assert isinstance(found, Strategy)
    assert found.cite or name == "none"
    json.dumps(describe(found), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("simms", "unknown strategy 'simms'; did you mean sims? A class of yours is package.module:Class"),
        ("magic", "choose from none, random_subsample, "),
        ("own_package.module", "A class of yours is package.module:Class"),
        ("sims(weigth=1)", "sims has no setting 'weigth'; did you mean weight?"),
        ("none(weight=1)", "none has no setting 'weight'; it has none"),
        ("sims(given=1)", "sims has no setting 'given'; it has extra_fit, extra_rate, weight"),
        ("sims(weight=-1)", "sims.weight must be at least 0, not -1"),
        ("verifier(by='luck')", "verifier.by must be one of confidence, distance, not 'luck'"),
        ("verifier", "it needs class labels, and these data, or this model, have none"),
        ("sims(1)", 'write a name, with settings where wanted: "sims(weight=1)"'),
        ("sims(weight=x)", "write a name, with settings where wanted"),
        ("sims(weight=1, weight=2)", "write a name, with settings where wanted"),
        ("sims(", "write a name, with settings where wanted"),
        ("a_package_that_nobody_has.b:C", "there is no module 'a_package_that_nobody_has' here; install its packa"),
        ("own_strategy:Nine", "own_strategy has no 'Nine'; did you mean Mine?"),
        ("own_strategy:xyz", "own_strategy has no 'xyz'\n"),
        ("own_strategy:frozen", "it is no subclass of madbench.strategies.Strategy"),
        ("own_strategy:Samples", "it is no subclass of madbench.strategies.Strategy"),
        ("own_strategy:Mine(alpha=1)", "own_strategy:Mine has no setting 'alpha'; it has power"),
        ("own_strategy:Mine(powers=1)", "has no setting 'powers'; did you mean power?"),
        ("own_strategy:Mine(power={1:2})", "Mine.power is {1: 2}; settings are finite numbers, text"),
        ("own_strategy:Mine(power=1e999)", "Mine.power is inf; settings are finite numbers"),
        ("own_strategy:Mine(power=(1, 1e999))", "Mine.power is (1, inf); settings are finite numbers"),
    ],
)  # fmt: skip
def test_names_and_settings(refused, installed, text, message):
    installed(own(hook("weigh", "jnp.ones(is_real.shape)", "power: int = 1")))
    line = refused(text)
    assert line.startswith("madbench: config.strategy=")
    assert message in line


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import a_dependency_that_nobody_has\n", "there is no module 'a_dependency_that_nobody_has' here"),
        ("raise ModuleNotFoundError\n", "there is no module 'own_strategy' here"),
        ("class Mine(:\n", "own_strategy cannot be imported: SyntaxError: invalid syntax"),
        ("raise ValueError('several\\nlines')\n", "own_strategy cannot be imported: ValueError: several lines"),
        ("None.x\n", "own_strategy cannot be imported: AttributeError: 'NoneType' object has no attribute 'x'"),
        ("raise SystemExit\n", "own_strategy cannot be imported: SystemExit"),
        (own(decorator=""), "Mine needs @dataclasses.dataclass(frozen=True, kw_only=True)"),
        (own(decorator="@dataclasses.dataclass"), "cannot inherit non-frozen dataclass from a frozen one"),
        (own(base="Mixin, Strategy").replace("\n\n@frozen", "\n\nclass Mixin:\n    pass\n\n@frozen"), "Mixin needs @"),
        (own("power: list = []"), "mutable default"),
    ],
)
def test_modules(refused, installed, code, message):
    installed(code)
    assert message in refused("own_strategy:Mine")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", f"it overrides no hook; hooks are {', '.join(HOOKS)}"),
        ("def selekt(self, key, candidates, member, state): pass", "Mine.selekt is no hook; did you mean select?"),
        ("def weight(self, is_real, n_real, n_synthetic): pass", "Mine.weight is no hook; did you mean weigh?"),
        ("def helper(self): pass", "Mine.helper is no hook; hooks are init, weigh, select, extrapolate, guide, and ot"),
        ("canditates = 4", "Mine.canditates declares nothing; did you mean candidates?"),
        ("read_real: bool = True", "Mine.read_real declares nothing; did you mean reads_real?"),
        ("def select(self, candidates): pass", "Mine.select takes (self, candidates), not (self, key, candidates, mem"),
        ("def weigh(self, *args): pass", "Mine.weigh takes (self, args), not (self, is_real, n_real, n_synthetic)"),
        ("weigh: float = 1.0", "Mine.weigh is the name of a hook, and this is no method"),
        ("select = None", "Mine.select is the name of a hook, and this is no method"),
        (hook("weigh", "is_real", "power: int"), "missing 1 required keyword-only argument: 'power'"),
        (hook("weigh", "is_real", "power: object = object()"), "Mine.power is <object object at "),
        (hook("weigh", "is_real", "def __post_init__(self): raise KeyError('a\\nb')"), "KeyError: 'a\\nb'"),
        (hook("weigh", "is_real", "def __post_init__(self): raise UserError('x must be y')"), "Mine': x must be y"),
        (hook("weigh", "is_real", "needs_labels = True"), "it needs class labels, and these data, or this model,"),
        (hook("weigh", "is_real", "needs_labels = 1"), "Mine.needs_labels must be True or False, not 1"),
        (hook("weigh", "is_real", "cite = None"), "Mine.cite must be text, not None"),
        (hook("weigh", "is_real", "candidates = 4"), "it draws 4 candidates, and no hook select chooses among them"),
        (hook("select", "candidates", "candidates = 0"), "Mine.candidates must be a whole number of at least 1, not 0"),
        (hook("select", "candidates", "candidates = 2.0"), "Mine.candidates must be a whole number of at least 1, not"),
        (hook("select", "candidates", "@property\ndef candidates(self): return 1 // 0"), "ZeroDivisionError: "),
        (hook("extrapolate", "fitted"), "extrapolate needs an extra fit; set extra_fit"),
        (hook("weigh", "is_real", "extra_fit = 0.5"), "its extra fit is used by no hook; override extrapolate or guid"),
        (hook("extrapolate", "fitted", "extra_fit = -1"), "Mine.extra_fit must be at least 0, not -1"),
        (hook("extrapolate", "fitted", "extra_fit = True"), "Mine.extra_fit must be a number, not True"),
        (hook("extrapolate", "fitted", "extra_fit = 1\nextra_rate = 0"), "Mine.extra_rate must be above 0, not 0"),
        (hook("init", "()"), "what its init returns is used by no hook; override select or guide"),
        (hook("weigh", "is_real", "reads_real = True"), "it reads_real, which init gets; override init"),
    ],
)  # fmt: skip
def test_classes(refused, installed, body, message):
    installed(own(body))
    assert message in refused("own_strategy:Mine")


def test_a_strategy_passes_under_its_other_names(installed):
    """Inherited hooks, private methods, constants that look like hooks, settings that are lists, properties."""
    first = own(
        hook("select", "candidates._replace(x=candidates.x[0])", "width = 3\nsizes: tuple = (1, 2)\nweights = (1, 2)")
    )
    installed(f"{first}\n@frozen\nclass Second(Mine):\n    candidates: int = 2\n    def _near(self): pass\n")
    found = strategies.build("own_strategy : Second ( candidates = 3, sizes=[4, None, 'x'] )", LABELLED)
    assert describe(found) == {
        "reads_real": False,
        "settings": {"sizes": [4, None, "x"], "candidates": 3},
        "consumes": ["3 candidates for each sample of the pool"],
        "cite": "",
    }


# -------------------------------------------------------------------------------------------- hooks, tried on shapes

X = "candidates.x[0]"
ENDLESS = "lambda x: x.sum() > 0, lambda x: x @ x.T @ x"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (hook("select", "candidates"), "select (x) has the shape (1, 1, 2), and must have (1, 2)"),
        (hook("select", f"Samples({X}[:-1], candidates.y)"), "select (x) has the shape (0, 2), and must have (1, 2)"),
        (hook("select", f"Samples({X}, candidates.y[None])"), "select (y) has the shape (1, 1), and must have (1,)"),
        (hook("select", f"Samples({X} > 0, candidates.y)"), "select (x) is of type bool, and must be float32"),
        (hook("select", f"Samples({X}.astype(int), candidates.y)"), "select (x) is of type int32, and must be float32"),
        (hook("select", f"Samples({X}, member)"), "select (y) is of type bool, and must be int32"),
        (hook("select", f"({X}, candidates.y)"), "select must return Samples(x, y), or those and weights"),
        (hook("select", "None"), "select must return Samples(x, y), or those and weights"),
        (hook("select", f"(Samples({X}, candidates.y), member, member)"), "select must return Samples(x, y), or those"),
        (hook("select", "Samples(None, candidates.y)"), "select (x) has the shape None"),
        (hook("select", f"(Samples({X}, candidates.y), {X})"), "select (weights) has the shape (1, 2), and must have"),
        (hook("select", "'text'"), "select fails: TypeError: "),
        (hook("select", "1 / 0"), "select fails: ZeroDivisionError: division by zero"),
        (hook("select", "missing.x"), "select fails: NameError: name 'missing' is not defined"),
        (hook("select", f"Samples({X} if member.any() else -{X}, candidates.y)"), "select fails: TracerBoolConversion"),
        (hook("select", f"Samples({X}[member], candidates.y)"), "select fails: NonConcreteBooleanIndexError"),
        (hook("select", "UserError('').x"), "select fails: AttributeError"),
        (hook("select", f"Samples(jax.pure_callback(lambda x: x, {X}, {X}), candidates.y)"), "calls back to Python"),
        (hook("select", f"Samples(jax.lax.while_loop({ENDLESS}, {X}), candidates.y)"), "select has matrix "
         "products in a loop of unknown length (while_loop), which cannot be counted; use jax.lax.scan, or fori_loop"),
        (hook("select", f"Samples(jax.lax.top_k({X}.T, 41)[0].T, candidates.y)"), "select fails: "),
        (hook("weigh", "jnp.ones(3)"), "weigh has the shape (3,), and must have (40,)"),
        (hook("weigh", "is_real.astype(int)"), "weigh is of type int32, and must be float32"),
        (hook("weigh", "jnp.where(n_synthetic > 0, jnp.nan, 1.0) + is_real"), "weigh returns numbers that are not "
         "finite, for a training set of 0 real and 40 synthetic samples"),
        (hook("weigh", "1.0 * is_real"), "weigh returns negative weights, or none above 0, for a training set of 0 re"),
        (hook("weigh", "0.5 - is_real"), "weigh returns negative weights, or none above 0, for a training set of 40 r"),
        (hook("weigh", "1e30 + 0 * is_real"), "weigh returns weights whose sum is 4e+31, for a training set of 40 rea"),
        (hook("weigh", "jnp.ones(40 if n_real > 3 else 40)"), "weigh fails: TracerBoolConversionError"),
        (hook("extrapolate", "fitted[0]", "extra_fit = 1"), "extrapolate must return arrays of the shapes and types o"),
        (hook("extrapolate", "None", "extra_fit = 1"), "extrapolate must return arrays of the shapes and types of `fi"),
        (hook("extrapolate", "jax.tree.map(lambda a: a[None], fitted)", "extra_fit = 1"), "extrapolate must return ar"),
        (hook("extrapolate", "fitted - tuned", "extra_fit = 1"), "extrapolate fails: TypeError: unsupported operand"),
        (hook("guide", "fitted"), "changes a sampler that can be guided, as that of diffusion, and gaussian has none;"),
        (hook("init", "1 / 0") + hook("select", "None"), "init fails: ZeroDivisionError"),
        (hook("init", "real.x") + hook("select", "None"), "init fails: AttributeError: 'NoneType' object has no attri"),
        (hook("init", "'text'") + hook("select", "None"), "init fails: TypeError"),
        (hook("init", "key") + hook("select", "None"), "init returns random keys, which are no arrays of numbers; use"),
        (hook("init", "jnp.zeros((3, 0))") + hook("select", "None"), "init returns an array of the shape (3, 0), whic"),
        (hook("init", "jax.lax.top_k(real.x.T, 41)", "reads_real = True") + hook("select", "None"), "init fails: "),
    ],
)  # fmt: skip
def test_hooks(refused, installed, body, message):
    installed(own(body))
    assert message in refused("own_strategy:Mine")


def test_every_loop_s_sizes_are_tried(refused, installed):
    """Not only the largest."""
    init = hook("init", "jax.lax.top_k(real.x.T, 20)", "reads_real = True")
    installed(own(init + hook("select", f"Samples({X}, candidates.y)")))
    assert "init fails: " in refused(
        "own_strategy:Mine", "--config.loops=fully_synthetic,fresh_data(n_initial=10,n_fresh=9)"
    )


@pytest.mark.parametrize(
    ("family", "body", "message"),
    [
        ("gan", hook("guide", "fitted"), "changes a sampler that can be guided, as that of diffusion, and gan has non"),
        ("kde", hook("weigh", "1.0 + is_real"), "changes weights in the training objective, which kde does not heed"),
        ("kde", hook("extrapolate", "fitted", "extra_fit = 1"), "changes weights that samples are drawn with, and kde"),
        ("kde", hook("select", f"Samples({X}, candidates.y), member"), "weighs samples in the training objective, whi"),
        ("diffusion", hook("guide", "fitted[0]"), "guide has the shape (8, 8, 1), and must have (3, 8, 8, 1)"),
        ("diffusion", hook("guide", "fitted - tuned"), "guide fails: TypeError"),
        ("diffusion", hook("guide", "x > 0"), "guide is of type bool, and must be float32"),
        ("diffusion", hook("select", f"Samples({X}, candidates.y[:3])"), "select (y) has the shape (3,), and must hav"),
        ("diffusion", hook("select", f"Samples({X}, candidates.y)", "candidates = 999"), "costs as much as "
         "all 50 optimizer steps of a generation (loop fully_synthetic); raise config.model.steps, let it draw or "),
        ("diffusion", hook("extrapolate", "tuned", "extra_fit = 1e6"), "costs as much as all 50 optimizer steps"),
    ],
)  # fmt: skip
def test_families(refused, installed, family, body, message):
    installed(own(body))
    assert message in refused("own_strategy:Mine", family=family)


def test_what_an_equal_cost_and_streaming_exclude(refused):
    line = refused("neon", "--config.model.epochs=2000.0", family="diffusion")
    assert "pays for what it costs in optimizer steps, and config.model.epochs sets those; set it to 0, or " in line
    for name in ("random_subsample", "neon", "sims"):
        line = refused(name, "--config.fleet.streaming=always", "--config.equal_cost=False", family="diffusion")
        assert "config.fleet.streaming='always' does not go with the strategy " in line
        assert "which needs all data at hand" in line


def test_a_family_whose_steps_cannot_be_set_gets_no_second_fit():
    class Odd:
        steps = 10

    with pytest.raises(UserError, match="Neon fits a second time, for a share of the steps, and Odd has none to set"):
        treating.build(strategies.build("neon", LABELLED), Odd(), n_initial=5)
    assert treating.build(strategies.build("none", LABELLED), Odd(), n_initial=5) is None


# ---------------------------------------------------------------------- hooks, run on real samples before the first fit


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (hook("select", f"Samples({X} * jnp.nan, candidates.y)"), "select returns samples that are not finite"),
        (hook("select", f"Samples({X}, candidates.y + 7)"), "select returns labels that the data have not"),
        (hook("select", f"Samples({X}, candidates.y), member * jnp.inf"), "select returns weights that are negative o"),
        (hook("select", f"Samples({X}, candidates.y), -1.0 * member"), "select returns weights that are negative or n"),
        (hook("select", f"Samples({X}, candidates.y), {X}[:, 0] > 99"), "everything is filtered out: select lets not "
         "even real samples pass; loosen it"),
        (hook("init", "jnp.nan") + hook("select", f"Samples({X}, candidates.y)"), "init returns numbers that are not"),
        (hook("extrapolate", "jax.tree.map(lambda a: a / 0, fitted)", "extra_fit = 1"), "extrapolate returns numbers "
         "that are not finite"),
    ],
)  # fmt: skip
def test_before_the_first_fit(run, installed, tmp_path, body, message):
    installed(own(body))
    code, err = run("own_strategy:Mine")
    assert code == 2
    assert [line for line in err.splitlines() if line.startswith("madbench: ")] == err.splitlines()[-1:]
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "work" / "metrics.jsonl").exists()


def test_a_guide_that_is_not_finite(run, installed, tmp_path):
    installed(own(hook("guide", "fitted / 0")))
    code, err = run("own_strategy:Mine", family="diffusion")
    assert code == 2
    assert "guide returns numbers that are not finite" in err.splitlines()[-1]
    assert not (tmp_path / "work" / "metrics.jsonl").exists()


# ---------------------------------------------------------------------------------------------- in a later generation


def test_everything_filtered_out_in_a_later_generation_loses_nothing(run, installed, tmp_path):
    """At λ = 0.05 the variance of a pool is a twentieth of the last one's; what passes must vary enough."""
    installed(own(hook("select", f"Samples({X}, candidates.y), member & ({X}.std(axis=0).max() > 0.1)")))
    for _ in range(2):  # again: the same
        code, err = run("own_strategy:Mine", "--config.biases=(0.05,)")
        assert code == 2
        assert err.splitlines()[-1] == (
            "madbench: config.strategy='own_strategy:Mine': everything is filtered out: of the 40 samples of "
            "generation 2 of loop fully_synthetic, λ = 0.05, seed 0, none passes; loosen it, in another --workdir"
        )
        assert "Traceback" not in err
        rows = [json.loads(line) for line in (tmp_path / "work" / "metrics.jsonl").read_text().splitlines()]
        assert [(row["generation"], row["status"]) for row in rows] == [(1, "ok")]
