"""The runs that a table of the paper needs: found in a folder of weights, or trained, and measured once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple

import torch

from exposurediffusion.baselines.diffusion import ConditionalDiffusion
from exposurediffusion.datasets.samples import PairDataset
from exposurediffusion.evaluation.measure import Correction, Protocol, Record
from exposurediffusion.evaluation.methods import Contender, Diffusion, Network
from exposurediffusion.evaluation.results import Results
from exposurediffusion.evaluation.score import score
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import Figure, mean, summarise
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.reproduction.budget import Budget, run_name
from exposurediffusion.reproduction.provenance import Facts, facts, measured_on, of_seeds
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.presets import find_preset
from exposurediffusion.training.source import Source
from exposurediffusion.weights.file import TrainedDenoiser, TrainedDiffusion, load_any

Figures = Mapping[tuple[int, Correction], Figure]
"""Nominal ratio and correction -> what was measured."""
Tick = Callable[[str, int, int], None]
"""`tick(what, done, of)`."""


class Trial(NamedTuple):
    """The search for the learning rate of a run.

    `figures`: rate -> PSNR on validation, dB; NaN where there are no weights. `rate`: the best; None: there are none.
    """

    figures: dict[float, float]
    rate: float | None


@dataclass
class Laboratory:
    """Measures runs by their presets, and remembers what was missing, and what was tried.

    Attributes:
        selection: the data that is measured on; the same root is trained on.
        weights: folder of runs, `PRESET[+compute][+seedN][@RATE]/weights.safetensors`.
        output: where figures are kept, so that nothing is measured twice.
        protocol: how figures are taken.
        budget: of runs that are trained here.
        seeds: runs of each preset, from seed 0 on, as far as there are some.
        rates: learning rates that every run is tried at; the one that is best on validation is measured. Empty: the
            budget's own.
        training: train what is missing.
        device: of networks.
        dark_shading: a map or a folder of dark frames, for the rows of PMN; None: they go without.
        report, tick: are told what is done.
        without: scenes that are left out.
        missing: runs that there are no weights of.
        trials: of each run that was searched for.
        used: of each run that was measured, what its numbers are of.
    """

    selection: Selection
    weights: Path
    output: Path
    protocol: Protocol
    budget: Budget
    seeds: int = 1
    rates: tuple[float, ...] = ()
    training: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dark_shading: Path | None = None
    report: Callable[[str], None] = lambda _: None
    tick: Tick = lambda what, done, of: None
    without: frozenset[str] = frozenset()
    missing: list[str] = field(default_factory=list)
    trials: dict[str, Trial] = field(default_factory=dict)
    used: list[Facts] = field(default_factory=list)
    _opened: dict[Selection, tuple[PairDataset, Results]] = field(default_factory=dict)
    _unseen: Laboratory | None = None

    def model(self, preset: str, matched: bool = False, seed: int = 0) -> TrainedDenoiser | TrainedDiffusion | None:
        """The weights of a run; None, and noted as missing, if there are none and none are trained."""
        path = self.path(preset, matched, seed)
        return None if path is None else load_any(path, self.device)

    def tried(self, preset: str, matched: bool = False) -> bool:
        """Whether somebody has trained a run, at any of the rates; for rows that are optional."""
        names = [run_name(preset, matched, rate=rate) for rate in self.rates or (None,)]
        return any(self._file(name).is_file() for name in names)

    def _file(self, name: str) -> Path:
        return self.weights / name / "weights.safetensors"

    def full_size(self, preset: str) -> ExposureDenoiser | ConditionalDiffusion:
        """The untrained network of a preset, as large as in the paper."""
        recipe = find_preset(preset).recipe
        model = (
            ExposureDenoiser(recipe.denoiser) if recipe.diffusion is None else ConditionalDiffusion(recipe.diffusion)
        )
        return model.to(self.device)

    def path(self, preset: str, matched: bool = False, seed: int = 0) -> Path | None:
        """The weights of a run, of the rate that was chosen; None, and noted, if they are missing and not trained."""
        if not self.rates:
            return self._found(preset, matched, seed)
        rate = self._trial(preset, matched).rate
        return None if rate is None else self._found(preset, matched, seed, rate)

    def _found(self, preset: str, matched: bool, seed: int, rate: float | None = None) -> Path | None:
        name = run_name(preset, matched, seed, rate)
        path = self._file(name)
        if path.is_file():
            return path
        if self.training:
            return self._train(preset, matched, seed, rate)
        if seed == 0 and rate is None:  # further seeds are a bonus; of a choice, it tells what is missing
            self._miss(name)
        return None

    def _miss(self, name: str) -> None:
        if name not in self.missing:
            self.missing.append(name)

    def _trial(self, preset: str, matched: bool) -> Trial:
        """Try the rates with seed 0."""
        name = run_name(preset, matched)
        if name not in self.trials:
            figures = dict.fromkeys(self.rates, nan)
            for rate in self.rates:
                if (path := self._found(preset, matched, 0, rate)) is not None:
                    figures[rate] = self._validated(preset, path)
            there = {rate: figure for rate, figure in figures.items() if not isnan(figure)}
            for rate in self.rates:
                if rate not in there and not self.training:  # else it has diverged
                    self._miss(run_name(preset, matched, rate=rate) if there else name)
            self.trials[name] = Trial(figures, max(there, key=lambda rate: there[rate]) if there else None)
        return self.trials[name]

    def _validated(self, preset: str, path: Path) -> float:
        """PSNR in dB on validation scenes that are not measured: the mean over the ratios trained for."""
        if self._unseen is None:
            chosen = replace(self.selection, split="validation", subset="all", ratios=())
            protocol, output = replace(self.protocol, corrections=("final",)), self.output / "validation"
            seen = frozenset(pair.scene for pair in self.opened(self.selected(preset))[0].pairs)  # of SID's subset, too
            self._unseen = replace(
                self, selection=chosen, protocol=protocol, output=output, without=seen, rates=(), _opened={}
            )
        found = self._unseen.baseline(self.contender(path, None, {}), self._unseen.selected(preset))
        levels = {ratio: figure.psnr for (ratio, _), figure in found.items()}
        low, high = find_preset(preset).recipe.capture.ratio
        return mean([psnr for ratio, psnr in levels.items() if low <= ratio <= high] or list(levels.values()))

    def _train(self, preset: str, matched: bool, seed: int, rate: float | None) -> Path | None:
        # These bring in accelerate, which measuring does not want.
        from exposurediffusion.training.checkpoints import NonFiniteLoss
        from exposurediffusion.training.trainer import Interrupted, train

        name = run_name(preset, matched, seed, rate)
        recipe = self.budget.recipe(find_preset(preset), matched, seed, rate)
        self.report(f"training {name}: {recipe.iterations:,} iterations")
        source = Source(
            self.selection.root,
            dataset=self.selection.kind,
            dark_shading=self._shading(preset),
            pairs=self.selection.pairs,
            cache=self.selection.cache,
            on_problem=self.selection.on_problem,
        )
        execution = Execution(validate_every=0, validation_patch=min(recipe.patch, Execution.validation_patch))
        patches, unseen = source.open(recipe, self.report, partial(self.tick, "decoding"))
        try:
            return train(
                recipe,
                patches,
                self.weights / name,
                validation=unseen,
                execution=replace(execution, device=self.device.type),
                provenance={"preset": preset, "data": self.selection.root.resolve().name},
                tick=lambda run, loss: self.tick(name, run.iteration, recipe.iterations),
            )
        except (Interrupted, NonFiniteLoss) as error:
            if rate is None or isinstance(error, Interrupted):
                raise ValueError(f"training {name}: {error}") from error
            self.report(f"{name} is out of the choice of rates: {error}")
            return None

    def _shading(self, preset: str) -> Path | None:
        return self.dark_shading if preset.startswith("pmn") else None

    def selected(self, preset: str, selection: Selection | None = None) -> Selection:
        """The data as a preset wants it."""
        return replace(selection or self.selection, dark_shading=self._shading(preset))

    def run(
        self,
        preset: str,
        matched: bool = False,
        *,
        selection: Selection | None = None,
        steps: int | None = None,
        **sampling: Any,
    ) -> Figures:
        """Figures of a run, over its seeds; none where weights are missing.

        Args:
            preset, matched: which run, see `budgets.run_name`.
            selection: other data.
            steps: simulated exposures, or steps of DDIM; None: what the weights were made for.
            sampling: other fields of `Sampling` to override.
        """
        chosen = self.selected(preset, selection)
        records: list[Record] = []
        found: list[Facts] = []
        for seed in range(self.seeds):
            if (path := self.path(preset, matched, seed)) is None:
                continue
            contender = self.contender(path, steps, sampling)
            found.append(facts(contender, preset, matched, seed))
            records += [replace(record, seed=seed, contender="") for record in self.measured(contender, chosen)]
        if not found:
            return {}
        self.used.append(of_seeds(found))
        return self._summarised(records, self.used[-1], chosen)

    def contender(self, path: Path, steps: int | None, sampling: Mapping[str, Any]) -> Network | Diffusion:
        """Weights as something that can be measured, named by all that makes it different."""
        model, name = load_any(path, self.device), path.parent.name
        if isinstance(model, TrainedDiffusion):
            return Diffusion(model, model.config.steps if steps is None else steps, name, model.digest)
        changed = dict(sampling) if steps is None else {**sampling, "steps": steps}
        chosen = replace(model.card.sampling, **changed)
        others = "".join(f", {key} {value}" for key, value in sampling.items())
        return Network(model, chosen, name, model.digest, f"{name}, T = {chosen.steps}{others}")

    def baseline(self, contender: Contender, selection: Selection | None = None) -> Figures:
        """Figures of something that needs no weights."""
        chosen = selection or self.selection
        return self._summarised(self.measured(contender, chosen), {"run": contender.name}, chosen)

    def _summarised(self, records: list[Record], of: Facts, selection: Selection) -> Figures:
        of = {**selection.told(), **self._protocol(), **of}
        return {
            (ratio, correction): replace(figure, of={**of, "correction": correction})
            for (_, ratio, correction), figure in summarise(records).items()
        }

    def _protocol(self) -> dict[str, Any]:
        chosen = {"crop": self.protocol.crop or "whole", "corrections": ", ".join(self.protocol.corrections)}
        return {**self.protocol.to_dict(), **chosen, "seeds": self.seeds}

    def measured(self, contender: Contender, selection: Selection) -> list[Record]:
        """The records of a contender; what is on disk is not measured again."""
        opened, results = self.opened(selection)
        done, total = 0, len(opened.pairs)

        def tick() -> None:
            nonlocal done
            done += 1
            self.tick(contender.name, done, total)

        score(opened, [contender], self.protocol, results, tick=tick)
        return [record for record in results.of(contender.name) if record.scene not in self.without]

    def opened(self, selection: Selection) -> tuple[PairDataset, Results]:
        """The pairs of a selection and the figures taken on them, opened once."""
        if selection not in self._opened:
            told = selection.told()
            parts = ["measured", selection.camera or "", "dark-shading" if selection.dark_shading else ""]
            folder = self.output / "-".join(part for part in parts if part)
            settings = {"data": told, **self.protocol.to_dict()}
            results = Results(folder, settings, remedy="remove it, or choose another folder by -o")
            self._opened[selection] = (
                self._within(selection.open(self.report, partial(self.tick, "decoding"))),
                results,
            )
        return self._opened[selection]

    def _within(self, opened: PairDataset) -> PairDataset:
        kept = tuple(pair for pair in opened.pairs if pair.scene not in self.without)
        if not kept:
            raise ValueError(
                f"{self.selection.root}: all validation scenes are among those that are measured, and no learning rate "
                "can be chosen on them: leave out --rates, or measure another --split or --subset"
            )
        return replace(opened, pairs=kept)

    def told(self) -> str:
        """What has to be read with every figure."""
        opened = measured_on((chosen, pairs) for chosen, (pairs, _) in self._opened.items())
        data = {**(opened or self.selection.told()), **self._protocol()}
        return "; ".join(f"{name} {value}" for name, value in data.items() if value not in ("", None))
