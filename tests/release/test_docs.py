"""The pages say what is so: figures as measured, links that lead somewhere, all targets, all commands, no long page."""

from __future__ import annotations

import importlib.util
import pkgutil
import re

import pytest
from building import ROOT

from gsvexport.cli.commands import cli
from gsvexport.target.target import target_names

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
_PATH = r"(?:gsvexport|tests|docs|examples|native|targets|calibration)/[A-Za-z0-9_./-]*"
_LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill, hooks = loaded("fill"), loaded("hooks")


def by_name(path):
    return path.name


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_a_page_quotes_figures_as_they_were_measured(page):
    text = page.read_text(encoding="utf-8")
    assert fill.filled(text, fill.read_figures(), fill.target_table()) == text, "run: python docs/fill.py"


def test_a_changed_and_an_unknown_figure_would_be_seen():
    figures = {"a.b": {"value": "1 s"}}
    text = "takes <!--fig a.b-->2 s<!--/--> here"
    assert fill.filled(text, figures, "") == "takes <!--fig a.b-->1 s<!--/--> here"
    with pytest.raises(KeyError):
        fill.filled("<!--fig a.c-->2 s<!--/-->", figures, "")


def test_a_figure_without_its_command_is_refused(tmp_path, monkeypatch):
    (tmp_path / "figures.toml").write_text(
        '[machines]\n[a.b]\nvalue = "1"\nwhat = "x"\nmachine = "m"\nn = 1\ndate = "d"\n'
    )
    monkeypatch.setattr(fill, "DOCS", tmp_path)
    with pytest.raises(ValueError, match=r"a\.b"):
        fill.read_figures()


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_marker_of_a_figure_is_whole_and_begins_no_line(page):
    """At the beginning of a line Markdown takes a comment for a block of its own, which ends the paragraph."""
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    whole = re.findall(r"<!--fig [a-z0-9.-]+-->[^<\n]+<!--/-->", text)
    assert text.count("<!--fig ") == len(whole) == text.count("<!--/-->")
    assert not re.search(r"^\s*<!--fig ", text, re.M)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_a_link_leads_to_a_file(page):
    for address in _LINK.findall(page.read_text(encoding="utf-8")):
        if not address.startswith("https://"):
            assert (page.parent / address).is_file(), f"{page.name}: {address}"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_a_file_that_a_page_names_is_there(page):
    spans = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    named = {found[1] for span in spans for found in re.finditer(r"(?:^|\s)(" + _PATH + r")(?=$|[\s:])", span)}
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_a_page_is_short_and_the_navigation_has_it():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    navigation = re.findall(r"\S+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert len(navigation) == len(set(navigation))
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).as_posix() in navigation
        assert len(page.read_text(encoding="utf-8").splitlines()) <= 170, page


def test_the_readme_names_every_target():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in target_names() if f"`{name}`" not in text} == set()


def test_every_command_and_every_option_comes_to_the_page():
    page = hooks.on_page_markdown((DOCS / "command-line.md").read_text(encoding="utf-8"))
    sections = dict(re.findall(r"^#+ gsvexport ([^\n]+)\n\n```text\n(.*?)\n```", page, re.M | re.S))
    assert set(cli.commands) <= set(sections)
    for name, command in cli.commands.items():
        for parameter in command.params:
            assert all(option in sections[name] for option in parameter.opts[:1] if option.startswith("-"))
    assert "key trust" in sections


def test_links_of_the_readme_become_links_of_the_site():
    text = "[a](docs/text.md) ![b](docs/pictures/c.svg) [d](examples/speak.py) [e](CHANGELOG.md) [f](https://x.example)"
    told = "[a](text.md) ![b](pictures/c.svg) d [e](changelog.md) [f](https://x.example)"
    assert hooks.relinked(text) == told


def test_a_page_that_is_not_written_yet_is_left_out_of_the_navigation():
    navigation = [{"A": [{"T": "text.md"}, {"X": "nowhere.md"}]}, {"I": "index.md"}]
    assert hooks._there(navigation) == [{"A": [{"T": "text.md"}]}, {"I": "index.md"}]


def test_a_page_that_fetches_from_elsewhere_would_be_seen():
    page = (
        '<script src="https://cdn.example/x.js"></script><a href="https://b.example">b</a><img alt=x src=//c.example/i>'
    )
    assert hooks.fetched(page) == ["https://cdn.example/x.js", "//c.example/i"]


@pytest.mark.parametrize("name", re.findall(r"^::: (\S+)$", (DOCS / "python.md").read_text(encoding="utf-8"), re.M))
def test_what_the_python_page_describes_is_there(name):
    assert pkgutil.resolve_name(name).__doc__
