"""The plan of a sweep: which activations it stores for all its trials, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from eyegender.core.cache import cache_folder, limit_bytes
from eyegender.core.errors import UserError
from eyegender.core.schema import parse
from eyegender.features.cut_choice import IMAGES, CutCosts, Kept, chance_of_build, choose_cuts, planned_seconds
from eyegender.features.sweep_plan import PLAN_ATTR, KeptCuts, encode_plan, group_of, keeps_activations
from eyegender.studies.plan_table import PlanRow, PlanTable
from eyegender.studies.trial_costs import DataOfTrials, TrialCosts, cut_of
from hydra_plugins.optuna_study import StudyPlan

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from eyegender.core.schema import TrainConfig
    from hydra_plugins.optuna_study import ExpectedTrials, StudyPreview

# Keys that change no activations, but how often they are read.
_LENGTH_KEYS = {"trainer.max_epochs", "trainer.max_steps"}
# With more kinds of trials than this, that cannot share activations, a plan would take longer than it saves.
_MOST_GROUPS = 24


@dataclass
class _Member:
    """Trials with the same cut and length: the index of the expected ones, their config and number."""

    index: int
    cfg: TrainConfig
    number: float
    cut: int = 0


@dataclass
class _Group:
    """Trials that could share activations, wherever their cuts allow it."""

    name: str
    label: str
    members: list[_Member] = field(default_factory=list)

    @property
    def trials(self) -> float:
        return sum(member.number for member in self.members)


def matters(key: str) -> bool:
    """Whether a swept key changes which activations a trial needs, or how often it reads them."""
    return not keeps_activations(key) or key in _LENGTH_KEYS


def plan_sweep(preview: StudyPreview) -> StudyPlan | None:
    """Choose what the sweep stores, so that all its trials together are expected to take the fewest seconds.

    Each trial is assumed to train all its epochs. The seconds follow from a short measurement of each stage.

    Returns:
        The plan; None if `features.mode` leaves nothing to choose. A plan without attributes says in its lines why
        nothing could be planned.

    Raises:
        UserError: the data or the network cannot be used in any trial.
    """
    groups = _groups(preview.expected(matters))
    if not any(_may_store(group) for group in groups):
        return None if groups else StudyPlan(lines=["plan: none, because hardly two trials would share activations"])
    if len(groups) > _MOST_GROUPS:
        return StudyPlan(lines=[f"plan: none, because {len(groups)} kinds of trials share no activations"])
    data = DataOfTrials()
    groups, costs = _measured(groups, data)
    choices = [_cut_costs(preview, group, cost) for group, cost in zip(groups, costs, strict=True)]
    limit = _limit(groups) - data.nbytes()
    chosen = choose_cuts(choices, limit)
    table = PlanTable(
        trials=sum(group.trials for group in groups),
        seconds=sum(planned_seconds(*pair) for pair in zip(choices, chosen, strict=True)),
        without=sum(planned_seconds(choice, {}) for choice in choices),
        limit=limit,
        ends_early=preview.ends_early,
    )
    for group, cost, choice, kept in zip(groups, costs, choices, chosen, strict=True):
        table.add(group.label, _rows(group, cost, choice, kept))
    attrs = encode_plan({group.name: kept for group, kept in zip(groups, chosen, strict=True) if _may_store(group)})
    # Not read by trials: what was expected, to be compared with what they take.
    attrs["seconds"] = round(table.seconds, 3)
    attrs["epoch_seconds"] = {label: {row.depth: round(row.epoch, 4) for row in rows} for label, rows in table.parts}
    # For the report: what they would take without stored activations.
    attrs["epoch_seconds_from_images"] = {
        label: {row.depth: round(row.epoch_without, 4) for row in rows} for label, rows in table.parts
    }
    attrs["build_seconds"] = round(
        sum(row.chance * (row.compute + row.store) for _, rows in table.parts for row in rows), 3
    )
    members = [(place, member.cut, member.index) for place, group in enumerate(groups) for member in group.members]
    return StudyPlan({PLAN_ATTR: attrs}, table.lines(), [index for _, _, index in sorted(members)])


def _measured(groups: Sequence[_Group], data: DataOfTrials) -> tuple[list[_Group], list[TrialCosts]]:
    """The groups whose trials can run, with what they cost; the others will fail, but are no reason to stop the sweep.

    Raises:
        UserError: no trial can run.
    """
    found: list[tuple[_Group, TrialCosts]] = []
    mistakes: list[UserError] = []
    for group in groups:
        cfg = group.members[0].cfg
        try:
            cost = TrialCosts(cfg, data.of(cfg), group.trials)
            for member in group.members:
                member.cut = cut_of(member.cfg, cost.stages)
        except UserError as error:
            mistakes.append(error)
        else:
            found.append((group, cost))
    if not found:
        raise mistakes[0]
    return [group for group, _ in found], [cost for _, cost in found]


def _groups(expected: Sequence[ExpectedTrials]) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for index, trials in enumerate(expected):
        own = OmegaConf.masked_copy(trials.config, [str(key) for key in trials.config if key != "hydra"])
        cfg = parse(own)
        label = " ".join(
            f"{key}={value}"
            for key, value in trials.values.items()
            if key != "model.finetune_depth" and key not in _LENGTH_KEYS
        )
        name = group_of(cfg)
        groups.setdefault(name, _Group(name, label)).members.append(_Member(index, cfg, trials.number))
    return list(groups.values())


def _may_store(group: _Group) -> bool:
    cfg = group.members[0].cfg
    return cfg.features.mode == "auto" and not cfg.model.mixup


def _limit(groups: Sequence[_Group]) -> int:
    """Bytes that the sweep may use; the smallest limit if trials have different ones."""
    folder = cache_folder() / "activations"
    return min(limit_bytes(folder, group.members[0].cfg.features.max_gb) for group in groups)


def _cut_costs(preview: StudyPreview, group: _Group, cost: TrialCosts) -> CutCosts:
    at_cut: list[list[_Member]] = [[] for _ in range(cost.stages + 1)]
    for member in group.members:
        at_cut[member.cut].append(member)

    def chance(first: int, end: int) -> float:
        return preview.chance([member.index for cut in range(first, end) for member in at_cut[cut]])

    def run(start: int, cut: int) -> float:
        """The mean over trials of different lengths."""
        number = sum(member.number for member in at_cut[cut])
        return sum(member.number * cost.run(member.cfg, start, cut) for member in at_cut[cut]) / number

    def build(source: int, cut: int) -> float:
        return 0.0 if cost.is_stored(cut) else cost.compute(source, cut) + cost.store(cut)

    def nbytes(cut: int) -> float:
        return cost.nbytes(cut) if _may_store(group) else float("inf")

    trials = [sum(member.number for member in members) for members in at_cut]
    return CutCosts(trials=trials, chance=chance, build=build, run=run, nbytes=nbytes)


def _rows(group: _Group, cost: TrialCosts, choice: CutCosts, kept: Kept) -> list[PlanRow]:
    """A row for each cut that a trial may have or that is stored, from the last one to the first."""
    starts = KeptCuts(kept)
    found = []
    cuts: Collection[int] = {*kept, *(member.cut for member in group.members)}
    for cut in sorted(cuts, reverse=True):
        example = next((member.cfg for member in group.members if member.cut == cut), group.members[0].cfg)
        is_new = cut in kept and not cost.is_stored(cut)
        found.append(
            PlanRow(
                depth=cost.stages - cut,
                trials=choice.trials[cut],
                start=starts.start(cut),
                source=kept.get(cut, IMAGES),
                chance=chance_of_build(choice, kept, cut) if cut in kept else 0.0,
                compute=cost.compute(kept[cut], cut) if is_new else 0.0,
                store=cost.store(cut) if is_new else 0.0,
                epoch=cost.epoch(example, starts.start(cut), cut),
                epoch_without=cost.epoch(example, IMAGES, cut),
                nbytes=cost.nbytes(cut) if cut in kept else 0.0,
                seconds=choice.run_all(starts.start(cut), cut, cut + 1),
            )
        )
    return found
