"""``hookline plugins matrix``: the compatibility matrix, from the declarations of the plugins."""

from __future__ import annotations

from pathlib import Path

import click

from hookline.commands.options import configured_command
from hookline.config.sources import LoadedConfig
from hookline.plugins.manager import load_plugins
from hookline.plugins.matrix import render_matrix
from hookline.plugins.registry import Registry

#: What stands behind this line of a page is not from declarations, and stays.
KEPT = "<!-- not from declarations -->"


@configured_command()
@click.option("--tree", metavar="FOLDER", help="only the plugins of this source tree, as if no other were installed")
@click.option("--out", metavar="FILE", help="write there instead of the terminal")
def matrix(loaded: LoadedConfig, tree: str | None, out: str | None) -> None:
    """Print what every plugin supports and needs as a Markdown page: features, devices, sizes, packages, paths,
    contract versions. What stands behind the line ``<!-- not from declarations -->`` in FILE stays."""
    if tree is None:
        text = render_matrix(load_plugins(loaded.config, strict=False), "hookline plugins matrix")
    else:
        text = render_tree(Path(tree))
    if out is None:
        click.echo(text, nl=False)
    else:
        Path(out).write_text(text + _kept(Path(out)), encoding="utf-8")


def _kept(page: Path) -> str:
    """The end of a page that is written anew."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    _, mark, rest = text.partition(KEPT)
    return f"\n{mark}{rest}" if mark else ""


def render_tree(tree: Path) -> str:
    """The page of a repository's own plugins, whatever else is installed."""
    registry = load_plugins(source_tree=[tree], strict=False)
    own = [plugin for plugin in registry.plugins if plugin.source_path is not None]
    return render_matrix(Registry(plugins=own), f"hookline plugins matrix --tree {tree.name}")
