"""Percentile spectra: each stage's curve with its band and baseline, and the omission gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from analysis.report.plots.axes import fit_latencies
from analysis.report.plots.canvas import (
    DASHES,
    FIRST,
    INK,
    SECOND,
    SERIES,
    Dash,
    Picture,
    draw,
    put_legend,
    short,
)
from analysis.report.plots.over_time import Limit
from analysis.report.source import Source
from analysis.report.spectrum import Curve, Floats, Spectrum, StageSpectra
from analysis.text import count, latency

_HEIGHT_IN: Final = 2.9
_NINES: Final = (0, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999, 0.9999999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """What is drawn: stages, and the baseline's curve or points in the stage of the same name."""

    stages: tuple[StageSpectra, ...]
    omitted: int  # judged stages for which there is no room
    baseline: Curve | None
    baseline_name: str
    baseline_stage: str
    limits: tuple[Limit, ...]
    mark: str


def _nines(quantiles: Floats) -> Floats:
    """Places on the axis: 1 for the lowest, 10 for p90, 100 for p99."""
    places: Floats = 1 / (1 - quantiles)
    return places


def _percentile_axis(axes: Axes, samples: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(1, max(10.0, 3.0 * samples))
    axes.xaxis.set_major_locator(FixedLocator([1 / (1 - q) for q in _NINES]))
    axes.xaxis.set_minor_locator(FixedLocator([2, 4, 20]))
    labels = {round(1 / (1 - q)): f"{q * 100:.7g} %" for q in _NINES}
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _at: labels.get(round(x), "")))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda _x, _at: ""))
    axes.set_xlabel("percentile", loc="right", labelpad=2)


def _curve(axes: Axes, spectrum: Spectrum, color: str, label: str, dash: Dash) -> None:
    """Solid as far as the sample carries it, faint beyond."""
    nines, values = _nines(spectrum.quantiles), spectrum.values_us
    is_carried = spectrum.quantiles <= spectrum.carried_q
    axes.plot(
        nines, np.where(is_carried, values, np.nan), color=color, label=label, linestyle=dash,
        drawstyle="steps-pre",
    )  # fmt: skip
    beyond = ~is_carried
    if beyond.any():
        beyond[max(0, int(np.argmax(beyond)) - 1)] = True
        axes.plot(
            nines, np.where(beyond, values, np.nan), color=color, linewidth=0.9, alpha=0.55,
            linestyle=(0, (1, 1)), drawstyle="steps-pre",
        )  # fmt: skip


def _limit_step(axes: Axes, limit: Limit) -> None:
    """A limit where its percentile is: the curve has to pass below."""
    at = 1 / (1 - limit.quantile)
    axes.plot([at / 1.9, at * 1.9], [limit.value_us] * 2, color=INK, linewidth=1.6)
    axes.annotate(
        short(limit.text, 40), (at, limit.value_us), xytext=(0, 3), textcoords="offset points",
        ha="center", fontsize=9, color=INK,
    )  # fmt: skip


def _baseline(axes: Axes, curve: Curve) -> None:
    """A curve, or its points with a line to lead the eye."""
    axes.plot(
        _nines(curve.quantiles), curve.values_us, color=INK, linewidth=1,
        linestyle=(0, (1, 1.5)), label="baseline", marker="" if curve.is_whole else "D",
        markersize=3.5, drawstyle="steps-pre" if curve.is_whole else "default",
    )  # fmt: skip


def _range_us(curves: Sequence[Floats], limits: Sequence[Limit]) -> tuple[float, float]:
    values = np.concatenate(curves)
    finite = [*values[np.isfinite(values)].tolist(), *(limit.value_us for limit in limits)]
    return (min(finite), max(finite)) if finite else (1.0, 1000.0)


def spectrum_picture(spectra: Spectra, source: Source) -> Picture:
    """Response time over the percentile, one curve a stage."""
    stages = spectra.stages

    def paint(axes: Axes) -> None:
        for stage, color, dash in zip(stages, SERIES, DASHES, strict=False):
            if stage.band is not None:
                axes.fill_between(
                    _nines(stage.band.quantiles), stage.band.low_us, stage.band.high_us,
                    color=color, alpha=0.22, linewidth=0, step="pre",
                )  # fmt: skip
            _curve(axes, stage.response, color, short(stage.stage, 18), dash)
        if spectra.baseline is not None:
            _baseline(axes, spectra.baseline)
        _percentile_axis(axes, max(stage.response.samples for stage in stages))
        curves = [stage.response.values_us for stage in stages]
        if spectra.baseline is not None:
            curves.append(spectra.baseline.values_us)
        fit_latencies(axes, *_range_us(curves, spectra.limits))
        for limit in spectra.limits:
            _limit_step(axes, limit)
        put_legend(axes, columns=5)

    alt = "Percentile spectrum of response time. " + " ".join(
        f"{short(stage.stage)}: {count(stage.response.samples)} samples, maximum "
        f"{latency(float(stage.response.values_us[-1]) * 1000)}."
        for stage in stages
    )
    return Picture(
        name="spectrum",
        title=f"Percentile spectrum{spectra.mark}",
        caption=_spectrum_caption(spectra),
        alt=alt,
        source=source,
        svg=draw("spectrum", alt, _HEIGHT_IN, paint),
    )


def _spectrum_caption(spectra: Spectra) -> str:
    parts = ["Response time of all ok requests of a stage; each nine takes the same room."]
    if any(stage.band is not None for stage in spectra.stages):
        parts.append("Band: 95 % confidence interval of each percentile.")
    parts.append("Faint: too few samples to rely on.")
    if spectra.baseline is not None:
        where = f"stage {short(spectra.baseline_stage)} of {spectra.baseline_name}"
        sign = "Dotted" if spectra.baseline.is_whole else "Diamonds, all that it kept"
        parts.append(f"{sign}: the baseline, {where}.")
    if spectra.omitted:
        parts.append(f"{spectra.omitted} more stages are in the tables.")
    return " ".join(parts)


def gap_picture(stage: StageSpectra, mark: str, source: Source) -> Picture:
    """Response time beside service time: what a clock started at the sending would hide."""

    def paint(axes: Axes) -> None:
        response, service = stage.response, stage.service
        size = min(response.quantiles.size, service.quantiles.size)
        axes.fill_between(
            _nines(response.quantiles[:size]), service.values_us[:size], response.values_us[:size],
            color=SECOND, alpha=0.18, linewidth=0, step="pre",
        )  # fmt: skip
        _curve(axes, response, SECOND, "response time", DASHES[0])
        _curve(axes, service, FIRST, "service time", DASHES[1])
        _percentile_axis(axes, response.samples)
        fit_latencies(axes, *_range_us([response.values_us, service.values_us], ()))
        put_legend(axes)

    alt = (
        f"Coordinated-omission gap of stage {short(stage.stage)}: response time from the intended "
        "start above service time from the sending, over the percentile."
    )
    text = (
        f"Stage {short(stage.stage)}, that with the widest gap at p99. Shaded: what a clock "
        "started at the sending would have hidden. Faint: too few samples to rely on."
    )
    return Picture(
        name="gap",
        title=f"Coordinated-omission gap{mark}",
        caption=text,
        alt=alt,
        source=source,
        svg=draw("gap", alt, _HEIGHT_IN, paint),
    )
