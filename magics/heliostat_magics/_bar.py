"""A share as a bar: characters for terminals, HTML in the theme's colours for notebooks. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bar", "bar_html"]

BLUE = "var(--jp-brand-color1,#1976d2)"
_CHARACTERS = 12


@dataclass(frozen=True)
class Bar:
    """A share of 0..1 that shows itself in a table; ``None`` is not known and shows nothing."""

    share: float | None

    def __str__(self) -> str:
        if self.share is None:
            return ""
        filled = round(self.share * _CHARACTERS)
        return "█" * filled + "░" * (_CHARACTERS - filled)

    @property
    def html(self) -> str:
        """The same for a notebook."""
        return "" if self.share is None else bar_html(self.share)


def bar_html(share: float, colour: str = BLUE, style: str = "width:96px") -> str:
    """Draw a share of 0..1; ``style`` says how wide it is and where."""
    percent = round(share * 100)
    shape = "height:6px;border-radius:3px;background:"
    return (
        f'<div role="img" aria-label="{percent} percent" style="flex:none;overflow:hidden;{style};'
        f'{shape}var(--jp-border-color2,rgba(128,128,128,.3))">'
        f'<div style="width:{percent}%;{shape}{colour}"></div></div>'
    )
