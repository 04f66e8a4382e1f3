"""Names that configs use, and the modules behind them, which are imported when a name is asked for."""

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from madbench.errors import UserError


class Registry(dict[str, str]):
    """Name -> module, each with a function of the same name whose keyword defaults are the settings of a config.

    Attributes:
      kind: of what is named, for messages: "dataset".
      field: of a config that holds the name: "config.data.source"; its group holds the settings.
      function: that each module has: "load".
    """

    def __init__(self, kind: str, field: str, function: str, modules: Mapping[str, str]):
        super().__init__(modules)
        self.kind = kind
        self.field = field
        self.function = function

    def find(self, name: Any) -> Callable[..., Any]:
        """The function behind `name`; of "folder:PATH", "folder" is the name.

        Raises:
          UserError: there is none; one line.
        """
        key = str(name).partition(":")[0]
        if key not in self:
            raise UserError(f"unknown {self.kind} {name!r}; {self.field} is one of {', '.join(self)}")
        return getattr(importlib.import_module(self[key]), self.function)

    def settings(self, name: Any) -> dict[str, Any]:
        """Keyword defaults of that function, and of the dataclasses it may return where it passes `**settings` on."""
        signature = inspect.signature(self.find(name))
        found = {p.name: p.default for p in signature.parameters.values() if p.default is not inspect.Parameter.empty}
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
            returned = signature.return_annotation
            for kind in typing.get_args(returned) or (returned,):
                fields = dataclasses.fields(kind)
                found |= {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
        return found

    def check(self, name: Any, settings: Mapping[str, Any]) -> None:
        """Raises UserError (one line) where `name` is unknown or has none of one of `settings`."""
        known = self.settings(name)
        for setting in settings:
            if setting not in known:
                group = self.field.rpartition(".")[0]
                raise UserError(
                    f"{group}.{setting} does not fit {self.field.rpartition('.')[2]} {name!r}, which takes "
                    f"{', '.join(known) or 'no settings'}; start configs from madbench.config.base()"
                )
