"""Fill in the tables of the documentation that are generated from the code.

Two comments mark the place of a table in a page; the text between them is replaced::

    <!-- generated: metrics -->
    <!-- end -->

``python tools/docs_reference.py`` rewrites the pages; ``--check`` names stale ones.
If anything in the code has no description, it ends with the names of all such things.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cause_texts import CAUSE_TEXTS
from docs_configuration import configuration
from fitness_texts import CHECK_TEXTS

from pytest_llmperf.cli import COMMANDS, build_parser
from pytest_llmperf.diagnosis.registry import CAUSES
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.gate import exit_codes, verdict
from pytest_llmperf.own_metrics import OWN_METRICS
from pytest_llmperf.plugin.marker_arguments import argument_text
from pytest_llmperf.plugin.markers import MARKERS, PLAIN_MARKERS
from pytest_llmperf.variables import VARIABLES

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SIGNATURE = re.compile(r"(\w+)\((.*)\): (.+)", re.DOTALL)


class UndescribedError(Exception):
    """Things in the code have no description; the message names them."""


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a Markdown table; a row without a description in its last column is refused."""
    if bare := [row[0] for row in rows if not row[-1].strip()]:
        raise UndescribedError(f"no description: {', '.join(bare)}")
    cells = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *cells)]
    return [*lines, ""]


def sentence(text: str) -> str:
    """Return a help text as a sentence: a capital first, a full stop last."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".") if text else ""


def markers() -> list[str]:
    """Return every marker with its arguments."""
    lines: list[str] = []
    for name, text in {**MARKERS, **PLAIN_MARKERS}.items():
        match = _SIGNATURE.fullmatch(text)
        if match is None:
            raise UndescribedError(f"marker {name}: expected 'name(arguments): description'")
        lines += [f"### {name}", "", "```python", f"@pytest.mark.{match[1]}({match[2]})", "```", ""]
        lines += [sentence(match[3]), ""]
        # Commas in a list separate its values.
        arguments = re.findall(r"(?:^|, )(\w+)", re.sub(r"\[[^\]]*\]", "", match[2]))
        try:
            rows = [(f"`{argument}`", argument_text(name, argument)) for argument in arguments]
        except KeyError as error:
            raise UndescribedError(f"marker {name}: argument {error} has no description") from None
        lines += table(("argument", "meaning"), rows)
    return lines


class _Options:
    """Stands in for pytest's parser, and collects the options that the plugin adds."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def getgroup(self, *_: object) -> _Options:
        return self

    def addoption(self, name: str, **given: object) -> None:
        text = given.get("help", "")
        if text != argparse.SUPPRESS:
            kind = given.get("metavar") or "|".join(given.get("choices") or ())  # type: ignore[arg-type]
            self.rows.append((f"`{name} {kind}`" if kind else f"`{name}`", sentence(str(text))))


def options() -> list[str]:
    """Return the options that the plugin adds to pytest."""
    from pytest_llmperf.plugin.options import add_options

    collected = _Options()
    add_options(collected)  # type: ignore[arg-type]
    return table(("option", "meaning"), collected.rows)


def commands() -> list[str]:
    """Return the commands of ``llmperf`` with their arguments and exit statuses."""
    lines: list[str] = []
    for name, parser, text in _parsers(build_parser()):
        lines += [f"## llmperf {name}", "", *_command(name, parser, text)]
        for verb, inner, inner_text in _parsers(parser):
            called = f"{name} {verb}"
            lines += [f"### llmperf {called}", "", *_command(called, inner, inner_text)]
        statuses: Mapping[int, str] | None = getattr(COMMANDS[name], "EXIT_STATUS", None)
        if statuses is None:
            raise UndescribedError(f"llmperf {name}: its module has no EXIT_STATUS")
        rows = [(f"`{code}`", sentence(meaning)) for code, meaning in statuses.items()]
        lines += table(("exit status", "meaning"), rows)
    return lines


def _parsers(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Yield the name, parser and one-line help of each subcommand."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                yield name, inner, texts.get(name, "")


def _command(name: str, parser: argparse.ArgumentParser, text: str) -> list[str]:
    """Return the section of one command: what it does, and its arguments."""
    if not text:
        raise UndescribedError(f"llmperf {name} has no help")
    lines = [sentence(text), ""]
    description = (parser.description or "").strip()
    if "\n  " in description:
        lines += ["```text", description, "```", ""]
    elif description:
        lines += [description, ""]
    rows = [
        (_argument(action), sentence((action.help or "").replace("%%", "%")))
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
        and action.help != argparse.SUPPRESS
    ]
    try:
        return [*lines, *(table(("argument", "meaning"), rows) if rows else [])]
    except UndescribedError as error:
        raise UndescribedError(f"llmperf {name}: {error}") from None


def _argument(action: argparse.Action) -> str:
    """Return an argument as a user types it: ``--budget TIME``."""
    value = action.metavar or (
        "|".join(map(str, action.choices)) if action.choices else action.dest
    )
    if not action.option_strings:
        return f"`{value}`"
    return (
        f"`{action.option_strings[-1]}`"
        if action.nargs == 0
        else (f"`{action.option_strings[-1]} {value}`")
    )


def metrics() -> list[str]:
    """Return the built-in metrics."""
    rows = [
        (
            f"`{metric.name}`",
            metric.label,
            metric.unit.value,
            metric.direction.value,
            f"`{metric.limit_kind}=`",
            metric.formula,
            metric.source,
        )
        for metric in OWN_METRICS
    ]
    return table(("name", "in tables", "unit", "better", "target", "formula", "source"), rows)


def fitness() -> list[str]:
    """Return the fitness checks."""
    _same_names("fitness check", set(CHECKS), set(CHECK_TEXTS))
    rows: list[tuple[str, ...]] = []
    for name, check in CHECKS.items():
        text = CHECK_TEXTS[name]
        rows.append((f"`{name}`", sentence(check.meaning), check.origin, check.severity, text.found,
                     text.source))  # fmt: skip
    return table(("check", "meaning", "caused by", "severity", "found when", "read from"), rows)


def causes() -> list[str]:
    """Return the causes that the doctor knows, by theme."""
    _same_names("cause", {cause.name for cause in CAUSES}, set(CAUSE_TEXTS))
    lines: list[str] = []
    for theme in dict.fromkeys(cause.theme for cause in CAUSES):
        rows = [
            (f"`{cause.name}`", cause.title, *CAUSE_TEXTS[cause.name])
            for cause in CAUSES
            if cause.theme == theme
        ]
        title = theme if theme.isupper() else theme.capitalize()
        lines += [f"### {title}", "", *table(("cause", "what it is", "shown by", "change"), rows)]
    return lines


def verdicts() -> list[str]:
    """Return the verdicts in their order of precedence."""
    kinds = list(verdict.VerdictKind)
    rows = [(f"`{kind.value}`", verdict.MEANINGS.get(kind, ""), _outcome(kind)) for kind in kinds]
    if bare := [kind.value for kind in kinds if kind not in verdict.MEANINGS]:
        raise UndescribedError(f"no description: verdict {', '.join(bare)}")
    return table(("verdict", "what is known", "the test"), rows)


def _outcome(kind: verdict.VerdictKind) -> str:
    if verdict.fails(kind):
        return "fails"
    if verdict.fails(kind, verdict.FailPolicy(strict=True)):
        return "passes with a warning; `--llmperf-strict` fails it"
    if verdict.fails(kind, verdict.FailPolicy(require_baseline=True)):
        return "passes; `--llmperf-require-baseline` fails it"
    return "passes"


def exits() -> list[str]:
    """Return the exit codes of a session with ``--llmperf-exit-codes``."""
    rows = [(f"`{code}`", sentence(text)) for code, text in exit_codes.MEANINGS.items()]
    return table(("exit code", "meaning"), rows)


def variables() -> list[str]:
    """Return the environment variables."""
    return table(
        ("variable", "meaning"), [(f"`{name}`", sentence(text)) for name, text in VARIABLES.items()]
    )


def _same_names(kind: str, known: set[str], described: set[str]) -> None:
    if bare := known - described:
        raise UndescribedError(f"no description: {kind} {', '.join(sorted(bare))}")
    if gone := described - known:
        raise UndescribedError(f"described, but no {kind}: {', '.join(sorted(gone))}")


TABLES: dict[str, Callable[[], list[str]]] = {
    "markers": markers,
    "options": options,
    "commands": commands,
    "configuration": configuration,
    "metrics": metrics,
    "fitness": fitness,
    "causes": causes,
    "verdicts": verdicts,
    "exits": exits,
    "variables": variables,
}


def pages(root: Path = ROOT) -> list[Path]:
    """Return the pages that have generated tables."""
    candidates = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [page for page in candidates if "<!-- generated: " in page.read_text(encoding="utf-8")]


def rendered(text: str) -> str:
    """Return a page's text with its generated tables filled in."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n" + "\n".join(TABLES[match[2]]()) + f"\n{match[3]}"

    return _BLOCK.sub(fill, text)


def main(arguments: list[str]) -> int:
    """Rewrite the pages, or with ``--check`` name the stale ones."""
    stale = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = rendered(text)
        if new == text:
            continue
        stale += 1
        print(f"{page.relative_to(ROOT)}: {'stale' if '--check' in arguments else 'written'}")
        if "--check" not in arguments:
            page.write_text(new, encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UndescribedError as problem:
        sys.exit(f"docs: {problem}")
