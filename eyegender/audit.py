"""`eyegender audit`: reports what is in a data set, before a training on it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from eyegender.core.command import command
from eyegender.core.errors import one_line
from eyegender.core.eye_study import split_title, unit_of
from eyegender.data.readers import build_reader, check_source, split_options

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig
    from rich.console import Console

    from eyegender.data.audit import AuditReport
    from eyegender.data.readers import Reader

REPORT_FILE, SHEET_FILE = "audit.json", "contact_sheet.png"
# The names in audit.json that differ from those of the report, so that the format of the file does not change.
_FILE_NAMES = {
    "in_both_classes": "in_both",
    "near_aborted": "near_gave_up",
    "separated_persons": "parted_persons",
    "similarity": "alike",
}


def audit(reader: Reader, output_dir: Path, *, repeats: int = 5, **options: Any) -> AuditReport:
    """Examine a data set, and write `audit.json` and `contact_sheet.png` into `output_dir`.

    Whatever `data.on_bad` and `data.on_conflict` say, unreadable images are listed and left out, and images in both
    classes are listed and kept. If the images cannot be split with these options, the report says why.

    Args:
        reader: reader of the data source.
        output_dir: the output folder, created if it does not exist.
        repeats: number of seeds over which a random split and a split by person are compared, 1 or more.
        options: options of the subset, the split, the seed and the cache, as `EyesDataModule` takes them.

    Raises:
        UserError: the source cannot be read.
    """
    import json

    from eyegender.data.audit import examine
    from eyegender.data.contact_sheet import draw_contact_sheet
    from eyegender.data.data_module import EyesDataModule

    data = EyesDataModule(reader, 32, color="gray", on_bad="skip", on_conflict="keep", **options)
    data.read(to_split=False)
    report, rows = examine(data, repeats)
    output_dir.mkdir(parents=True, exist_ok=True)
    content = asdict(report, dict_factory=lambda fields: {_FILE_NAMES.get(name, name): each for name, each in fields})
    (output_dir / REPORT_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
    draw_contact_sheet(output_dir / SHEET_FILE, rows, data.samples.open)
    return report


def print_report(report: AuditReport, output_dir: Path, console: Console) -> None:
    """Print the report as tables."""
    from rich.markup import escape
    from rich.table import Table

    classes = list(report.counts)
    shown = [escape(one_line(name)) for name in classes]
    split_by = split_title(report.split_kind, classes)
    table = Table("split", *shown, "all", title=f"{escape(report.source)}: images, split by {split_by}")
    for split, counts in {**report.split_counts, "all": report.counts}.items():
        table.add_row(split, *(str(counts[name]) for name in classes), str(sum(counts.values())))
    console.print(table)

    both = "both" if len(classes) == 2 else "several"
    facts = Table("property", "value", title="contents")
    if report.sizes is not None:
        facts.add_row("side length, smallest / median / largest", "{} / {:g} / {} pixels".format(*report.sizes))
    facts.add_row("unreadable files", str(len(report.unreadable)))
    copies = sum(len(names) - 1 for names in report.duplicates)
    facts.add_row("copies of another file", str(copies))
    facts.add_row(f"images in {both} classes", str(len(report.conflicts)))
    in_both = sum(pair.in_both_classes for pair in report.near_pairs)
    near = f"{len(report.near_pairs)}, {in_both} of them in {both} classes"
    facts.add_row("pairs of near-duplicates", "unknown: all images are similar" if report.near_aborted else near)
    if report.separated_persons is not None:
        facts.add_row(f"{unit_of(classes)}s in several splits", str(len(report.separated_persons)))
    if report.group_sizes is not None:
        groups, largest = sum(report.group_sizes.values()), max(report.group_sizes, default=0)
        facts.add_row("groups that stay together", f"{groups}, the largest of {largest} images")
    console.print(facts)

    leaks = Table("split", "duplicates across", "1-nearest neighbor", title="leakage between splits")
    for kind, leak in report.leaks.items():
        shown_kind = report.split_kind if (kind, report.split_kind) == ("person", "blocks") else kind
        leaks.add_row(split_title(shown_kind, classes), f"{leak.across:g} pairs", f"{100 * leak.accuracy:.1f}%")
    if report.gain is not None:
        gain, error = report.gain
        leaks.add_row("gain of random", "", f"{100 * gain:+.1f} ± {100 * error:.1f} points")
    if report.leaks:
        console.print(leaks)

    if report.no_split:
        console.print(f"no split: {one_line(report.no_split)}", markup=False, highlight=False, soft_wrap=True)
    separated = report.separated_persons or {}
    for title, lines in (
        (f"in {both} classes", [" = ".join(names) for names in report.conflicts]),
        (f"{unit_of(classes)} in several splits", [f"{unit}: {', '.join(sets)}" for unit, sets in separated.items()]),
        ("unreadable", [f"{name}: {reason}" for name, reason in report.unreadable.items()]),
        ("identical files", [" = ".join(names) for names in report.duplicates]),
        ("near-duplicates", [f"{p.first} ~ {p.second} ({p.similarity:.3f}{', mirrored' if p.mirrored else ''})"
                             for p in report.near_pairs]),
    ):  # fmt: skip
        for line in lines[:10]:
            console.print(one_line(f"{title}: {line}"), markup=False, highlight=False)
        if len(lines) > 10:
            console.print(f"{title}: {len(lines) - 10} more in audit.json", markup=False, highlight=False)
    console.print(f"contact sheet: {output_dir / SHEET_FILE}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Output   {output_dir}", markup=False, highlight=False, soft_wrap=True)


@command("audit")
def main(cfg: DictConfig) -> None:
    from eyegender.core.output_folder import new_folder
    from eyegender.core.schema import AuditConfig, parse_as

    parsed = parse_as(cfg, AuditConfig)  # before torch is imported, so that a mistake is reported at once
    check_source(parsed.data)
    output_dir = new_folder(parsed.output, "output", REPORT_FILE, SHEET_FILE, overwrite=parsed.overwrite)
    from rich.console import Console

    options = {"seed": parsed.seed, "cache_gb": parsed.features.max_gb, **split_options(parsed.data)}
    report = audit(build_reader(parsed.data), output_dir, **options)
    print_report(report, output_dir, Console())


if __name__ == "__main__":
    main()
