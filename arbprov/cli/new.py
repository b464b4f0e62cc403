"""``arbprov new``."""

from __future__ import annotations

import re
from importlib.resources import as_file, files
from pathlib import Path

import click

from arbprov.cli.output import echo

__all__ = ["new"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*", re.ASCII)
# Stands for the provider's name in the files of the template.
_PLACEHOLDER = "{{name}}"
# Every file of the template ends with it, so that no tool takes it for code of arbprov.
_SUFFIX = ".txt"
_NEXT_STEPS = """
Next:
  cd {path}
  python -m pytest
  arbprov dev provider"""


@click.command(short_help="Make the folder NAME with a provider and its tests.")
@click.argument("path", metavar="NAME", type=click.Path(path_type=Path))
def new(path: Path) -> None:
    """Make the folder NAME with a provider, its tests, pyproject.toml and Dockerfile.

    NAME is the provider's name too: letters and digits, with single hyphens or underscores between
    them. The folder must not exist yet, or be empty.
    """
    if not _NAME.fullmatch(path.name):
        raise click.BadParameter(
            f"{path.name!r} can't be the name of a provider and of a package; use letters and "
            f"digits, as in my-provider",
            param_hint="NAME",
        )
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise click.BadParameter(
            f"{path} exists already; name a folder that does not", param_hint="NAME"
        )
    with as_file(files("arbprov.cli") / "template") as template:
        for source in sorted(template.rglob(f"*{_SUFFIX}")):
            relative = source.relative_to(template)
            target = path / relative.with_name(relative.name.removesuffix(_SUFFIX))
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8").replace(_PLACEHOLDER, path.name)
            target.write_text(text, encoding="utf-8")
            echo(str(target))
    echo(_NEXT_STEPS.format(path=path), err=True)
