"""Which runs stand beside each other in a report: runs of one recipe and several seeds share a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ...metrics import Estimate, bootstrap_mean
from ..runs.examples import load_examples
from ..runs.run import Run, Table, merge
from .charts import sample
from .html import below, join, piece

# a mean at or under this Dice counts as a structure that was not found
FAILURE = 0.5
# colours that are kept: of what was trained on masks alone, and of a teacher
ALONE, TEACHER = 3, 4


@dataclass(frozen=True)
class Column:
    """One or several runs of the same recipe.

    Args:
        runs: the runs, one per seed.
        role: ``baseline``, ``teacher`` or empty.
        style: number of its colour, dash and marker.
        label: its name on the page.
        tables: test set -> scores of all its runs.
        examples: test set -> path -> outlines, of its first run that kept some.
    """

    runs: tuple[Run, ...]
    role: str
    style: int
    label: str
    tables: dict[str, Table]
    examples: dict[str, dict]

    @property
    def head(self) -> Markup:
        """Its marker, name and role."""
        label = piece("breakable", self.label)  # where a narrow column may break it
        return below(join(sample(self.style), " ", label), self.role)

    def estimate(self, test_set: str, score: str) -> Estimate | None:
        """Return the mean with its interval; None where it was not scored."""
        table = self.tables.get(test_set)
        if table is None or score not in table.columns:
            return None
        values = table.columns[score]
        return bootstrap_mean(values, table.groups) if np.isfinite(values).all(0).any() else None

    def figure(self, test_set: str, score: str) -> float | None:
        """Return what its evaluation found for a whole set, averaged over the runs; None where any run lacks it."""
        found = [run.summary.get("test_sets", {}).get(test_set, {}).get(score) for run in self.runs]
        return None if None in found else float(np.mean(found))

    def mean_of(self, test_set: str, image: str, score: str = "dice") -> float | None:
        """Return the score of one image, averaged over the runs."""
        table = self.tables.get(test_set)
        if table is None or image not in table.images:
            return None
        return float(table.columns[score][:, table.images.index(image)].mean())


def make_columns(
    runs: Sequence[Run], baseline: Sequence[Run] = (), teacher: Sequence[Run] = ()
) -> list[Column]:
    """Put runs that differ in their seed alone together, the baseline first and the teacher last.

    Args:
        runs: the runs of the report.
        baseline: what they are compared with. Where it is not given, the first group without distillation is, if
            another group has distillation.
        teacher: runs that scored the teacher itself.

    Raises:
        RunError: the runs of one column were tested on different images.
    """
    groups = _by_recipe(runs)
    roles = [(group, "") for group in groups]
    if baseline:
        roles = [(group, "baseline") for group in _by_recipe(baseline)] + roles
    elif any(group[0].terms for group in groups):
        plain = next((i for i, group in enumerate(groups) if group[0].history and not group[0].terms), None)
        if plain is not None:
            roles.insert(0, (roles.pop(plain)[0], "baseline"))
    roles += [(group, "teacher") for group in _by_recipe(teacher)]
    labels, styles = [_label(group) for group, _ in roles], _styles(roles)
    return [
        Column(
            runs=tuple(group),
            role=role,
            style=styles[i],
            label=label if labels.count(label) == 1 else str(group[0].folder),
            tables=_tables(group),
            examples=next((found for run in group if (found := load_examples(run.folder))), {}),
        )
        for i, ((group, role), label) in enumerate(zip(roles, labels, strict=True))
    ]


def test_set_names(columns: Sequence[Column]) -> list[str]:
    """Return the test sets that any column has, in the order of their names."""
    return sorted({name for column in columns for name in column.tables})


# pytest would collect a function of this name wherever a test imports it
test_set_names.__test__ = False  # type: ignore[attr-defined]


def baseline_of(columns: Sequence[Column]) -> Column | None:
    """Return the column that the others are compared with."""
    return next((column for column in columns if column.role == "baseline"), None)


def students(columns: Sequence[Column]) -> list[Column]:
    """Return the columns that the report is about: neither baseline nor teacher, or all there is."""
    return [column for column in columns if not column.role] or list(columns)


def _by_recipe(runs: Sequence[Run]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.recipe(), []).append(run)
    return list(groups.values())


def _styles(roles: Sequence[tuple[Sequence[Run], str]]) -> list[int]:
    """Number of the colour of every column: the same for a student on any page, another one for what trained on masks alone."""
    free = iter(n for n in range(len(roles) + 3) if n not in (ALONE, TEACHER))
    found, alone_is_free = [], True
    for group, role in roles:
        alone = role == "baseline" or bool(group[0].history and not group[0].terms)
        if role == "teacher":
            found.append(TEACHER)
        elif alone and alone_is_free:
            found.append(ALONE)
            alone_is_free = False
        else:
            found.append(next(free))
    return found


def _label(group: Sequence[Run]) -> str:
    if len(group) == 1:
        return group[0].name
    names = {run.seedless for run in group}
    return f"{' / '.join(sorted(names))} ({len(group)} runs)"


def _tables(group: Sequence[Run]) -> dict[str, Table]:
    scored = [run for run in group if run.tables]
    if not scored:
        return {}
    shared = [name for name in scored[0].tables if all(name in run.tables for run in scored)]
    return {
        name: merge([run.tables[name] for run in scored], [f"{run.folder}/{name}" for run in scored])
        for name in shared
    }
