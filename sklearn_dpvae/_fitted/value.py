"""Values: frozen dataclasses that may keep what they have worked out. Imports nothing."""

from dataclasses import fields
from typing import Any


class Value:
    """Base of a frozen dataclass with cached properties.

    What a cached property holds follows from the fields. It is not pickled and not copied.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
