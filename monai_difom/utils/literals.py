"""Texts that a MONAI configuration gives back unchanged."""

from __future__ import annotations

import ast
import re

_SPECIAL = {sign: f"\\x{ord(sign):02x}" for sign in "#@%$"}
_LITERAL = re.compile(r"""\$(['"]).*\1""", re.DOTALL)


def literal(text: str) -> str:
    """Return what stands for a text in a configuration: itself, or an expression that is it.

    In any text MONAI turns ``#`` into ``::``, and takes one that begins with ``@``, ``%`` or ``$`` for a reference, a macro or an
    expression.
    """
    if "#" not in text and not text.startswith(("@", "%", "$")):
        return text
    return "$" + re.sub("[#@%$]", lambda found: _SPECIAL[found[0]], repr(text))


def literal_text(value: str) -> str | None:
    """Return the text that an expression of `literal` is; None for any other text. Nothing is run."""
    if not _LITERAL.fullmatch(value):
        return None
    try:
        found = ast.literal_eval(value[1:])
    except (ValueError, SyntaxError):
        return None
    return found if isinstance(found, str) else None
