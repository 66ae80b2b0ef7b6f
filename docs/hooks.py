"""What mkdocs does beside its own: the README is the first page, and the program tells its command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gsvexport.cli.commands import cli

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = "<!--commands-->"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)]+)\)")


def on_config(config: Any) -> Any:
    """Take pages that are not written yet out of the navigation."""
    config.nav = _there(config.nav)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the README as the first page, and the changelog."""
    from mkdocs.structure.files import File

    for name, source in (("index.md", "README.md"), ("changelog.md", "CHANGELOG.md")):
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=relinked(text)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of every command where a page asks for it."""
    return markdown.replace(COMMANDS, "\n".join(command_pages())) if COMMANDS in markdown else markdown


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that a reader's browser would have to fetch something else for."""
    if found := fetched(output):
        raise ValueError(f"{page.file.src_uri} fetches {', '.join(found)}")
    return output


def fetched(page: str) -> list[str]:
    """Addresses elsewhere that a page loads when it is looked at."""
    found = re.findall(
        r"<(?:script|link|img|iframe|audio|video|source)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)", page
    )
    return list(dict.fromkeys(found))


def relinked(text: str) -> str:
    """A page of the repository's root as a page of the site: links into docs/ stay links, others become their words."""

    def link(found: re.Match[str]) -> str:
        mark, words, address = found.groups()
        if address.startswith(("#", "https://")):
            return found[0]
        if address == "CHANGELOG.md":
            return f"[{words}](changelog.md)"
        return f"{mark}[{words}]({address[5:]})" if address.startswith("docs/") else words

    return _LINK.sub(link, text)


def command_pages(group: click.Group = cli, above: str = "gsvexport") -> Iterator[str]:
    """A section for each command: its name, and its help as the terminal shows it."""
    for name, command in sorted(group.commands.items()):
        told = f"{above} {name}"
        yield f"### {told}\n\n```text\n{help_of(command, told)}\n```\n"
        if isinstance(command, click.Group):
            yield from (page.replace("### ", "#### ", 1) for page in command_pages(command, told))


def help_of(command: click.Command, told: str) -> str:
    """What `--help` prints, 80 columns wide."""
    context = click.Context(command, info_name=told, terminal_width=80, max_content_width=80)
    return command.get_help(context)


def _there(entries: Any) -> list[Any]:
    kept = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, inside),) = entry.items()
            if isinstance(inside, list):
                kept.append({title: _there(inside)})
                continue
            name = inside
        else:
            name = entry
        if name in ("index.md", "changelog.md") or (ROOT / "docs" / name).is_file():
            kept.append(entry)
    return kept
