"""A result in plain sentences: what was found, and what was run."""

import re
from collections.abc import Sequence

from madbench.report import accounts
from madbench.report.aggregate import Line, Table
from madbench.report.text import style
from madbench.results import Result, bias_text

_NAMED = 3  # cells that a sentence names; of more it says how many


def found(table: Table) -> list[str]:
    """The verdicts in a sentence, then the cell whose distance grew most, then what failed or is missing."""
    lines, sentences = table.lines, []
    if len(lines) == 1:
        sentences.append(f"{_name(lines[0], lines)}: {lines[0].verdict.text}.")
    else:
        said: dict[str, list[Line]] = {criterion.finding: [] for criterion in table.definition.criteria}
        for line in lines:
            judged = (*line.verdict.findings, *line.verdict.undecided)
            for text in judged or [table.definition.otherwise] * (line.verdict.text == table.definition.otherwise):
                said.setdefault(text, []).append(line)
        clauses = [_who(text, some, lines) for text, some in said.items() if some]
        if clauses:
            clauses[0] = re.sub(r"^(\d+|all \d+|both)", lambda number: _of(number[0], len(lines)), clauses[0])
            sentences.append("; ".join([f"{clauses[0][0].upper()}{clauses[0][1:]}", *clauses[1:]]) + ".")
    return [*sentences, *_most(table), *_failed(lines)]


def _of(number: str, total: int) -> str:
    """Of what a number is, where it is the first."""
    return f"{number} cells" if number.startswith(("all", "both")) else f"{number} of {total} cells"


def _who(finding: str, some: Sequence[Line], lines: Sequence[Line]) -> str:
    """ "5 go MAD", "1 is stable (fresh_data at λ = 1)", "all 6 lose diversity"."""
    every = "both" if len(lines) == 2 else f"all {len(lines)}"
    number = every if len(some) == len(lines) else str(len(some))
    one = len(some) == 1
    verb, _, rest = finding.partition(" ")
    if finding == "MAD":
        said = "goes MAD" if one else "go MAD"
    elif verb == "loses":
        said = f"{'loses' if one else 'lose'} {rest}"
    elif "undecided" in finding:
        said = f"{'has' if one else 'have'} {finding}"
    elif finding in some[0].verdict.undecided:
        said = f"{_is(len(some))} undecided, {finding}"
    else:
        said = f"{_is(len(some))} {finding}"
    named = f" ({', '.join(_name(line, lines) for line in some)})" if len(some) < min(_NAMED, len(lines)) else ""
    return f"{number} {said}{named}"


def loop_parts(loop: str) -> tuple[str, str]:
    """A loop's name, and its settings as "(n_fresh=10, n_synthetic=20)"; they may be ""."""
    name, bracket, settings = loop.partition("(")
    return name, (bracket + settings).replace(",", ", ")


def short_names(loops: Sequence[str]) -> dict[str, str]:
    """Loops without their settings, where that tells them apart."""
    names = {loop: loop_parts(loop)[0] for loop in loops}
    return names if len(set(names.values())) == len(names) else {loop: loop for loop in loops}


def _name(line: Line, lines: Sequence[Line]) -> str:
    """As much of a cell's name as tells it from the others."""
    loops, biases = (list(dict.fromkeys(getattr(each.cell, field) for each in lines)) for field in ("loop", "bias"))
    loop, bias = short_names(loops)[line.cell.loop], f"λ\xa0=\xa0{bias_text(line.cell.bias)}"
    if len(biases) == 1:
        return loop
    return bias if len(loops) == 1 else f"{loop} at {bias}"


def _most(table: Table) -> list[str]:
    """Of the distance that the definition looks at first, the cell in which it grew most."""
    names = [name for name, info in table.metrics.items() if info.kind == "distance"]
    if not names:
        return []
    info = table.metrics[names[0]]
    grown = []
    for line in table.lines:
        first, last = line.metrics[info.name]
        if first and last and first.mean and last.mean and line.generations > 1:
            grown.append((last.mean / first.mean, line, first.mean, last.mean))
    if not grown:
        return []
    factor, line, first, last = max(grown, key=lambda each: each[0])
    texts = [style(info, value).format(value) for value in (first, last)]
    if factor <= 1:
        return [f"{info.label} grew in none of them."] if len(grown) > 1 else []
    floor = line.floors.get(info.name)
    beyond = ""
    if floor and floor.p95 and last > floor.p95:
        beyond = f", which is {last / floor.p95:.2g} times the 95th percentile between real samples"
    name = _name(line, table.lines)
    where = f"grew most {'at' if name.startswith('λ') else 'in'} {name}:" if len(grown) > 1 else "grew"
    return [f"{info.label} {where} from {texts[0]} to {texts[1]} by generation {line.generations}{beyond}."]


def _failed(lines: Sequence[Line]) -> list[str]:
    runs = sum(line.verdict.seeds for line in lines)
    diverged, unfinished = (sum(getattr(line.verdict, name) for line in lines) for name in ("diverged", "unfinished"))
    sentences = [f"{diverged} of {runs} runs diverged and count{'s' * (diverged == 1)} as failed."] if diverged else []
    return sentences + ([f"{unfinished} of {runs} runs {_is(unfinished)} unfinished."] if unfinished else [])


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def ran(result: Result, table: Table) -> str:
    """What was run, in a paragraph."""
    config, lines = result.config, table.lines
    loops = list(dict.fromkeys(line.cell.loop for line in lines))
    biases = list(dict.fromkeys(line.cell.bias for line in lines))
    seeds, generations = len(config["seeds"]), config["generations"]
    source, n_initial = (config.get("data") or {}).get("source"), config.get("n_initial")
    data = f"{n_initial:,} real samples" if isinstance(n_initial, int) else "real samples"
    data += f" of {source}" if source else ""
    meaning = result.reference.get("bias_meaning")
    meaning = "" if not meaning or biases == [1.0] else f" ({meaning})" if meaning.startswith("λ =") else f"; {meaning}"
    names = f" ({_listed(list(short_names(loops).values()))})" if len(loops) <= _NAMED else ""
    sentences = [
        f"Generation 1 of a {config['model']['family']} model learns from {data}; each later one, from what "
        "its loop gives it of real data and of samples that earlier generations made.",
        f"{_many(len(loops), 'loop')}{names}, λ\xa0= {_listed([bias_text(b) for b in biases])}{meaning}; "
        f"{_many(seeds, 'seed')}, {_many(generations, 'generation')}: {_many(len(lines), 'cell')}, "
        f"{_many(len(lines) * seeds, 'run')}.",
    ]
    if accounts.has_strategy(line.cell for line in lines):
        sentences.append(_strategy(result, lines[0]))
    n, features = result.reference.get("n_samples"), result.reference.get("features")
    labels = _listed([info.label for info in result.metrics.values()])
    if n and features:
        sentences.append(
            f"Each generation was measured by {labels}: {n:,} generated samples against {n:,} real ones that no model "
            f"was trained on, in the features {features}."
        )
    return " ".join(sentences)


def _strategy(result: Result, line: Line) -> str:
    """What was done against collapse, in one workdir."""
    said = accounts.told(result)
    pays = "costs no more FLOPs than one without, so that it pays in optimizer steps"
    more = "trains for as many optimizer steps as one without, and costs what it takes beyond that"
    return (
        f"Against collapse: {accounts.consumes(said)}. Budget: {line.cell.budget}: a generation "
        f"{pays if line.cell.equal_cost else more}."
    )


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _listed(texts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))
