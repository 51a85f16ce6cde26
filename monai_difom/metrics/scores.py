"""Every score of an image: what it is called, which way it is better, how it is written. Nothing else in the package says so.

Evaluation, CSV files, comparison, report and model card read this table. A new score is one entry here and its value in
`map_scores`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Score:
    """One score.

    Args:
        name: column of a CSV file, key of a dict.
        title: its name on a page and in a sentence.
        short: its name in a narrow table.
        higher_is_better: False for errors and distances.
        digits: digits after the point for a reader; None, of a score that this table does not know, takes three for a
            figure under 2 and one above.
        is_length: measured in pixels, or in millimetres where the size of a pixel is known.
    """

    name: str
    title: str
    short: str
    higher_is_better: bool = True
    digits: int | None = 3
    is_length: bool = False

    def show(self, value: float, sign: str = "", more: int = 0) -> str:
        """Return a value, or a difference of two, as text.

        Args:
            value: the figure.
            sign: ``"+"`` writes the sign of positive figures too.
            more: digits beyond `digits`, for tables that are held against published ones.
        """
        digits = self.digits if self.digits is not None else 3 if abs(value) < 2 else 1
        return f"{value:{sign}.{digits + more}f}"

    def heading(self, unit: str = "px") -> str:
        """Return the title, of a length with its unit: ``"px"`` or ``"mm"``."""
        return f"{self.title} ({unit})" if self.is_length else self.title


@dataclass(frozen=True)
class ImageMark:
    """A fact of an image, 0 or 1, that a mean has to be read with.

    Args:
        name: column of a CSV file.
        total: key of its number of images.
        title: that number's name in a table.
        meaning: what the images have in common, for a page.
    """

    name: str
    total: str
    title: str
    meaning: str


#: name -> score, in the order of every table and file
SCORES = {
    score.name: score
    for score in (
        Score("dice", "Dice", "Dice"),
        Score("iou", "IoU", "IoU"),
        Score("precision", "Precision", "precision"),
        Score("recall", "Recall", "recall"),
        Score("mean_dice_256", "Dice, mean of 256 thresholds", "meanDice 256"),
        Score("mean_iou_256", "IoU, mean of 256 thresholds", "meanIoU 256"),
        Score("mae", "MAE", "MAE", higher_is_better=False),
        Score("weighted_f", "Weighted F", "weighted F"),
        Score("s_measure", "S-measure", "S-measure"),
        Score("e_measure_max", "E-measure, max of each image", "max E"),
        Score("e_measure_mean", "E-measure, mean", "mean E"),
        Score("hd95", "HD95", "HD95", higher_is_better=False, digits=1, is_length=True),
        Score("nsd", "Normalised surface Dice", "NSD"),
    )
}
#: name -> mark, likewise
MARKS = {
    mark.name: mark
    for mark in (
        ImageMark("empty_mask", "empty_masks", "empty masks", "Images with an empty mask"),
        ImageMark("false_positive", "false_positives", "false positives", "of these, with a false alarm"),
        ImageMark("undefined_hd95", "undefined_hd95", "undefined HD95", "HD95 set to the diagonal"),
    )
}
SIZES = ("height", "width", "foreground")
#: of an image that is scored, in the order of a CSV file
COLUMNS = ("image", *SCORES, *SIZES, *MARKS)
#: columns of a CSV file with the size of a pixel in millimetres, where it is known; the number of the axis follows
SPACING = "spacing_"


def score_of(column: str) -> Score:
    """Return what is known of a column of scores.

    Args:
        column: name of a score; ``<score>/<structure>`` is that of one structure; another program's column keeps its
            name, and more of it counts as better.
    """
    name, _, structure = column.partition("/")
    if name not in SCORES:
        return Score(column, column, column, digits=None)
    score = SCORES[name]
    if not structure:
        return score
    return replace(
        score, name=column, title=f"{score.title}, {structure}", short=f"{score.short}, {structure}"
    )


def score_columns(columns: Collection[str]) -> list[str]:
    """Return the columns that are scores, not facts of an image: known ones in the table's order, then any others."""
    facts = (*SIZES, *MARKS)
    others = [c for c in columns if c not in SCORES and c not in facts and not c.startswith(SPACING)]
    return [name for name in SCORES if name in columns] + others


def unit_of_length(columns: Collection[str]) -> str:
    """Return the unit of a table's distances: ``"mm"`` where its columns have the size of a pixel, else ``"px"``."""
    return "mm" if any(column.startswith(SPACING) for column in columns) else "px"
