"""A comparison as one table of a paper, in LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from fer_cli.core.errors import UsageError
from fer_cli.core.format import estimate, percent
from fer_cli.reporting.comparison import SIGNIFICANT, Comparison, Metric, System
from fer_cli.reporting.tables import for_latex

Spread = Literal["sd", "interval"]
SPREADS: Final = ("sd", "interval")
_HEADINGS: Final[dict[Metric, str]] = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced acc.",
    "macro_f1": "Macro F1",
}
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]*")
_NAMED: Final = re.compile(r"([A-Z])=(.+)")


def row_names(systems: Sequence[System], given: Sequence[str] = ()) -> dict[str, str]:
    """Return what each system is called, by its letter.

    Args:
        systems: of the comparison.
        given: a name each in their order, or ``LETTER=NAME`` for some. Others are called by their names in the store,
            without kind and version, and with their letter where two are called alike.

    Raises:
        UsageError: too few or too many, an unknown letter, or two alike.
    """
    stems = {one.label: one.name.rpartition("/")[2].partition("@")[0] for one in systems}
    alike = [stem for stem in stems.values() if list(stems.values()).count(stem) > 1]
    names = {label: f"{stem} ({label})" if stem in alike else stem for label, stem in stems.items()}
    by_letter = [found for text in given if (found := _NAMED.fullmatch(text))]
    if by_letter and len(by_letter) == len(given):
        if unknown := [found[1] for found in by_letter if found[1] not in names]:
            raise UsageError(f"--names: no system {unknown[0]}", hint=f"they are {', '.join(names)}")
        names |= {found[1]: found[2] for found in by_letter}
    elif given:
        if len(given) != len(systems):
            raise UsageError(
                f"--names has {len(given)} for {len(systems)} systems",
                hint="give one each, in their order, or A=NAME for some",
            )
        names = dict(zip(names, given, strict=True))
    if len(set(names.values())) < len(names):
        raise UsageError("--names gives two systems one name", hint="tell them apart")
    return names


def check_label(label: str) -> None:
    r"""Refuse what ``\label`` cannot take.

    Raises:
        UsageError: another sign than a letter, a digit, ``:``, ``.``, ``_`` and ``-``.
    """
    if not _LABEL.fullmatch(label):
        raise UsageError(f"--label {label!r} is no label", hint="use letters, digits, ':', '.', '_' and '-'")


def best_of(comparison: Comparison) -> System:
    """Return the system of the highest accuracy, the first of several."""
    return max(comparison.systems, key=lambda one: one.scores["accuracy"].value)


def is_ahead(comparison: Comparison) -> bool:
    """Tell whether the first system's accuracy is above each other's by the comparison's own test, adjusted by Holm."""
    return all(
        pair.adjusted < SIGNIFICANT and pair.differences["accuracy"].value < 0 for pair in comparison.pairs
    ) and not any(one.unsound for one in comparison.systems)


def paper_table(
    comparison: Comparison,
    *,
    ahead: System | None,
    names: Sequence[str] = (),
    spread: Spread | None = None,
    caption: str | None = None,
    label: str | None = None,
) -> str:
    r"""Return a comparison as a ``table`` for a document that has booktabs.

    Args:
        comparison: what is shown, in its order.
        ahead: the best system where its accuracy is significantly above each other's; it is bold.
        names: of the rows: :func:`row_names`.
        spread: the SD over seeds, or the 95% interval. By default the SD where every system has several seeds.
        caption: in place of what the table says of itself. What is unsound is said all the same.
        label: of ``\label``; by default ``tab:fer-`` and the data set.

    Raises:
        UsageError: ``names`` or ``label`` are at fault, or an SD is asked for where each system has a single run.
    """
    systems = comparison.systems
    called = row_names(systems, names)
    several = [one for one in systems if one.sd is not None]
    spread = spread or ("sd" if len(several) == len(systems) else "interval")
    if spread == "sd" and not several:
        raise UsageError("--spread sd: no system has several seeds", hint="train with --seeds 0,1,2, or take interval")
    label = label or f"tab:fer-{re.sub(r'[^A-Za-z0-9._-]+', '-', comparison.dataset)}"
    check_label(label)
    text = for_latex(caption) if caption is not None else _caption(comparison, spread, ahead)
    unsound = [f"{called[one.label]}: {reason}" for one in systems for reason in one.unsound]
    if unsound:
        text += rf" $^\dagger$Unsound: {for_latex('; '.join(unsound))}."
    rows = []
    for one in systems:
        mark = r"$^\dagger$" if one.unsound else ""
        cells = [_cell(one, metric, spread, bold=one is ahead and metric == "accuracy") for metric in _HEADINGS]
        rows.append(" & ".join([for_latex(called[one.label]) + mark, *cells]) + r" \\")
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{text}}}",
            rf"\label{{{label}}}",
            r"\begin{tabular}{lrrr}",
            r"\toprule",
            " & ".join(["Method", *_HEADINGS.values()]) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cell(system: System, metric: Metric, spread: Spread, *, bold: bool) -> str:
    score = system.scores[metric]
    if spread == "interval":
        text = for_latex(estimate(score.value, score.low, score.high, percent), number=True)
        value, _, rest = text.partition(" ")
    else:
        value = for_latex(percent(score.value), number=True)
        rest = "" if system.sd is None else rf"$\pm$ {for_latex(percent(system.sd[metric]), number=True)}"
    return " ".join([rf"\textbf{{{value}}}" if bold else value, *([rest] if rest else [])])


def _caption(comparison: Comparison, spread: Spread, ahead: System | None) -> str:
    split = f"{comparison.split} split, {comparison.n:,} images"
    counts = sorted({len(one.seeds) for one in comparison.systems if one.sd is not None})
    seeds = f"{' or '.join(map(str, counts))} seeds"
    parts = [f"{for_latex(comparison.dataset)}, {for_latex(split)}, in percent"]
    if spread == "sd":
        single = "" if all(one.sd for one in comparison.systems) else "; a single run has no SD"
        parts.append(rf"mean $\pm$ SD over {seeds}{single}")
    else:
        parts.append(f"{f'mean over {seeds}, ' if counts else ''}with 95\\% intervals")
    text = "; ".join(parts) + "."
    if ahead is not None:
        tests = dict.fromkeys(_TESTS.get(pair.test, pair.test) for pair in comparison.pairs)
        holm = ", adjusted by Holm" if len(comparison.pairs) > 1 else ""
        text += f" Bold: accuracy above each other ({for_latex(' and '.join(tests))}{holm}, $p < {SIGNIFICANT}$)."
    return text


_TESTS: Final = {"t over seeds": "t test over items and seeds", "McNemar": "McNemar's exact test"}
