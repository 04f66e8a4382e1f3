"""How configs name a thing and its settings in one text: `fresh_data(n_fresh=100)`, `sims(weight=1)`."""

import ast
import re
from typing import Any

# A name, or one in a module of somebody else's: "package.module:Name".
_CALL = re.compile(r"\s*(?P<name>[A-Za-z_]\w*(?:\.\w+)*(?:\s*:\s*[A-Za-z_]\w*)?)\s*(?P<settings>\(.*\))?\s*", re.DOTALL)


def read_call(text: Any) -> tuple[str, dict[str, Any]]:
    """The name and the settings, of which each has a name and is a literal of Python.

    Raises:
      ValueError: it is no such text.
    """
    name, settings = _read(text)
    return name, {key: value for key, (value, _) in settings.items()}


def spelled(text: Any) -> str:
    """The call in one spelling, however it was written; ValueError as above."""
    name, settings = _read(text)
    return f"{name}({','.join(f'{key}={own}' for key, (_, own) in settings.items())})" if settings else name


def _read(text: Any) -> tuple[str, dict[str, tuple[Any, str]]]:
    """The name, and each setting's value and its text."""
    if not isinstance(text, str) or not (found := _CALL.fullmatch(text)):
        raise ValueError(f"{text!r} is no name, with settings where wanted")
    name = "".join(found["name"].split())
    if found["settings"] is None:
        return name, {}
    try:
        node = ast.parse(f"f{found['settings']}", mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            names = [str(k.arg) for k in node.keywords]
            if len(set(names)) == len(names):
                return name, {str(k.arg): (ast.literal_eval(k.value), ast.unparse(k.value)) for k in node.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise ValueError(f"the settings of {text!r} cannot be read")


def canonical(text: str) -> str:
    """The same text however it was spaced: what tables and files call the thing."""
    return "".join(text.split())
