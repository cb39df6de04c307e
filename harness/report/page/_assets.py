"""Templates, styles and scripts, put into one text; and data as JSON that no HTML parser can misread."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report import numbers

_STYLES = ("base", "controls", "chart", "tables", "sections", "print")
SCRIPTS = ("dom", "scale", "shapes", "tooltip", "panel", "chart", "filters", "table", "layers", "utterances", "main")
_DANGEROUS = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def environment(scripts: Sequence[str] = SCRIPTS) -> Environment:
    """The templates, with autoescape on and every missing name an error; and these scripts for a page."""
    templates = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _joined("js", scripts)
    templates.globals.update(style=Markup(_joined("css", _STYLES)), script=Markup(script), script_hash=_hash(script))
    templates.filters["json"] = embedded_json
    templates.filters["points_interval"] = numbers.points_interval
    return templates


def embedded_json(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`: nothing in it can end the element or open another.

    Raises:
        ValueError: a number is not finite.

    >>> embedded_json({"said": "</script>"})
    Markup('{"said":"\\\\u003c/script\\\\u003e"}')
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_DANGEROUS))


def _joined(kind: str, names: Sequence[str]) -> str:
    directory = resources.files("harness.report") / "templates" / kind
    return "\n".join((directory / f"{name}.{kind}").read_text(encoding="utf-8") for name in names)


def _hash(script: str) -> str:
    """What the page's security policy names, so that a browser runs this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
