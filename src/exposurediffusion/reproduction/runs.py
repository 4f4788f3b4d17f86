"""The runs that a table of the paper needs: found in a folder of weights, or trained, at the learning rate chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple

import torch

from exposurediffusion.evaluation.measure import Record
from exposurediffusion.evaluation.methods import Diffusion, Network
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import mean
from exposurediffusion.reproduction.budget import Budget, run_name
from exposurediffusion.reproduction.provenance import Facts, facts, of_seeds
from exposurediffusion.reproduction.scorer import Scorer, Scores
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.presets import find_preset
from exposurediffusion.training.source import Source
from exposurediffusion.weights.file import TrainedDenoiser, TrainedDiffusion, load_any


class Trial(NamedTuple):
    """The search for the learning rate of a run.

    `scores`: rate -> PSNR on validation, dB; NaN where there are no weights. `rate`: the best; None: there are none.
    """

    scores: dict[float, float]
    rate: float | None


@dataclass
class Runs:
    """Runs by their presets, with a memory of what was missing, tried and used.

    Attributes:
        weights: folder of runs, `PRESET[+compute][+seedN][@RATE]/weights.safetensors`.
        scorer: measures them; the training split of its data is trained on.
        budget: of runs that are trained here.
        seeds: runs of each preset, from seed 0 on, as far as there are some.
        rates: learning rates that every run is tried at; the one that is best on validation is measured. Empty: the
            budget's own.
        training: train what is missing.
        device: of networks.
        dark_shading: a map or a folder of dark frames, for the rows of PMN; None: they go without.
        missing: runs that there are no weights of.
        trials: of each run that was searched for.
        used: of each run that was measured, what its numbers are of.
    """

    weights: Path
    scorer: Scorer
    budget: Budget
    seeds: int = 1
    rates: tuple[float, ...] = ()
    training: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dark_shading: Path | None = None
    missing: list[str] = field(default_factory=list)
    trials: dict[str, Trial] = field(default_factory=dict)
    used: list[Facts] = field(default_factory=list)
    _validation: Scorer | None = field(default=None, init=False, repr=False)
    _expected: list[int] = field(default_factory=list, init=False, repr=False)  # iterations of runs to be trained,
    _trained: list[int] = field(default_factory=list, init=False, repr=False)  # and of those that have been

    def expect(self, needed: Iterable[tuple[str, bool]], seeds: int | None = None) -> None:
        """Announce the runs that will be asked for, so that progress is of all that are to be trained.

        Args:
            needed: presets, and whether of equal compute.
            seeds: of each; None: all.
        """
        for preset, matched in needed if self.training else ():
            iterations = self.budget.recipe(find_preset(preset), matched).iterations
            for seed in range(self.seeds if seeds is None else seeds):
                names = [run_name(preset, matched, seed, rate) for rate in self.rates or (None,)]
                absent = [name for name in names if not self._file(name).is_file()]
                count = len(absent) if seed == 0 else len(absent) == len(names)  # further seeds have one rate
                self._expected += [iterations] * count

    def scores(
        self,
        preset: str,
        matched: bool = False,
        *,
        selection: Selection | None = None,
        steps: int | None = None,
        **sampling: Any,
    ) -> Scores:
        """The scores of a run, over its seeds; none where weights are missing.

        Args:
            preset, matched: which run, see `budget.run_name`.
            selection: other data.
            steps: simulated exposures, or steps of DDIM; None: what the weights were made for.
            sampling: other fields of `Sampling` to override.
        """
        chosen = self._selected(preset, selection)
        records: list[Record] = []
        found: list[Facts] = []
        for seed in range(self.seeds):
            if (path := self.path(preset, matched, seed)) is None:
                continue
            method = load_method(path, self.device, steps, sampling)
            found.append(facts(method, preset, matched, seed))
            measured = self.scorer.records(method, chosen)
            records += [replace(record, seed=seed, method="") for record in measured]
        if not found:
            return {}
        self.used.append(of_seeds(found))
        return self.scorer.summarise(records, chosen, self.used[-1])

    def model(self, preset: str, matched: bool = False, seed: int = 0) -> TrainedDenoiser | TrainedDiffusion | None:
        """The weights of a run; None, and noted as missing, if there are none and none are trained."""
        path = self.path(preset, matched, seed)
        return None if path is None else load_any(path, self.device)

    def path(self, preset: str, matched: bool = False, seed: int = 0) -> Path | None:
        """The weights of a run, of the rate that was chosen; None, and noted, if they are missing and not trained."""
        if not self.rates:
            return self._find(preset, matched, seed)
        rate = self._trial(preset, matched).rate
        return None if rate is None else self._find(preset, matched, seed, rate)

    def are_there(self, preset: str, matched: bool = False) -> bool:
        """Whether somebody has trained a run, at any of the rates; for rows that are optional."""
        names = [run_name(preset, matched, rate=rate) for rate in self.rates or (None,)]
        return any(self._file(name).is_file() for name in names)

    def describe(self) -> str:
        """What has to be read with every score."""
        facts = {**self.scorer.describe(), "seeds": self.seeds}
        return "; ".join(f"{name} {value}" for name, value in facts.items() if value not in ("", None))

    def _file(self, name: str) -> Path:
        return self.weights / name / "weights.safetensors"

    def _find(self, preset: str, matched: bool, seed: int, rate: float | None = None) -> Path | None:
        name = run_name(preset, matched, seed, rate)
        if (path := self._file(name)).is_file():
            return path
        if self.training:
            return self._train(preset, matched, seed, rate)
        if seed == 0 and rate is None:  # further seeds are a bonus; `_trial` notes which rates are missing
            self._miss(name)
        return None

    def _miss(self, name: str) -> None:
        if name not in self.missing:
            self.missing.append(name)

    def _trial(self, preset: str, matched: bool) -> Trial:
        """Try the rates with seed 0."""
        name = run_name(preset, matched)
        if name not in self.trials:
            scores = dict.fromkeys(self.rates, nan)
            for rate in self.rates:
                if (path := self._find(preset, matched, 0, rate)) is not None:
                    scores[rate] = self._validate(preset, path)
            there = {rate: score for rate, score in scores.items() if not isnan(score)}
            for rate in self.rates:
                if rate not in there and not self.training:  # else it has diverged
                    self._miss(run_name(preset, matched, rate=rate) if there else name)
            self.trials[name] = Trial(scores, max(there, key=lambda rate: there[rate]) if there else None)
        return self.trials[name]

    def _validate(self, preset: str, path: Path) -> float:
        """PSNR in dB on validation scenes that are not measured: the mean over the ratios trained for."""
        if self._validation is None:
            self._validation = self.scorer.validation(self._selected(preset))
        selection = self._selected(preset, self._validation.selection)
        scores = self._validation.scores(load_method(path, self.device), selection)
        levels = {ratio: score.psnr for (ratio, _), score in scores.items()}
        low, high = find_preset(preset).recipe.capture.ratio
        return mean([psnr for ratio, psnr in levels.items() if low <= ratio <= high] or list(levels.values()))

    def _train(self, preset: str, matched: bool, seed: int, rate: float | None) -> Path | None:
        # These bring in accelerate, which measuring does not want.
        from exposurediffusion.training.checkpoints import NonFiniteLoss
        from exposurediffusion.training.trainer import Interrupted, train

        name = run_name(preset, matched, seed, rate)
        recipe = self.budget.recipe(find_preset(preset), matched, seed, rate)
        data, report, tick = self.scorer.selection, self.scorer.report, self.scorer.tick
        place, before = len(self._trained) + 1, sum(self._trained)
        self._trained.append(recipe.iterations)
        what = f"run {place} of {max(place, len(self._expected))}, {name}"
        total = max(sum(self._expected), sum(self._trained))
        report(f"training {what}: {recipe.iterations:,} iterations")
        source = Source(
            data.root,
            dataset=data.kind,
            dark_shading=self._shading(preset),
            pairs=data.pairs,
            cache=data.cache,
            on_problem=data.on_problem,
        )
        patches, unseen = source.open(recipe, report, partial(tick, "decoding"))
        try:
            return train(
                recipe,
                patches,
                self.weights / name,
                validation=unseen,
                execution=replace(Execution(validate_every=0), device=self.device.type),
                provenance={"preset": preset, "data": data.root.resolve().name},
                report=report,
                tick=lambda run, loss: tick(what, before + run.iteration, total),
            )
        except (Interrupted, NonFiniteLoss) as error:
            if rate is None or isinstance(error, Interrupted):
                raise ValueError(f"training {name}: {error}") from error
            report(f"{name} is out of the choice of rates: {error}")
            return None

    def _shading(self, preset: str) -> Path | None:
        return self.dark_shading if preset.startswith("pmn") else None

    def _selected(self, preset: str, selection: Selection | None = None) -> Selection:
        """The data as a preset wants it."""
        return replace(selection or self.scorer.selection, dark_shading=self._shading(preset))


def load_method(
    path: Path, device: torch.device, steps: int | None = None, sampling: Mapping[str, Any] | None = None
) -> Network | Diffusion:
    """Weights as a method, named by all that makes it different; see `Runs.scores` for the arguments."""
    model, name, changed = load_any(path, device), path.parent.name, dict(sampling or {})
    if isinstance(model, TrainedDiffusion):
        return Diffusion(model, model.config.steps if steps is None else steps, name, model.digest)
    others = "".join(f", {key} {value}" for key, value in changed.items())
    chosen = replace(model.card.sampling, **changed, **({} if steps is None else {"steps": steps}))
    return Network(model, chosen, name, model.digest, f"{name}, T = {chosen.steps}{others}")
