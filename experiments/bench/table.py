"""The figures of a suite as Markdown, and as a plot."""

import pathlib
import statistics
from typing import Any

_HEADS = (
    "contender", "ms a step", "first / it", "it / first", "images a second", "first call s", "MB"
)  # fmt: skip


def ratio(first: list[float], other: list[float]) -> float:
    """The median over rounds of first / other; of their medians where rounds are missing."""
    return statistics.median(_ratios(first, other))


def _ratios(first: list[float], other: list[float]) -> list[float]:
    if len(first) != len(other):
        return [statistics.median(first) / statistics.median(other)]
    return [a / b for a, b in zip(first, other, strict=True)]


def _range(first: list[float], other: list[float]) -> str:
    """The least and the greatest first / other of a round; nothing where there is but one."""
    ratios = _ratios(first, other)
    return f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""


def _row(*cells: Any) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def group_rows(results: dict[str, Any], batch_size: int = 64) -> list[str]:
    """A group as the lines of a Markdown table: times, and the first contender's over them."""
    first = next((r["step_s"] for r in results.values() if "step_s" in r), None)
    rows = [
        _row(*_HEADS),
        _row(*["---"] * len(_HEADS)),
    ]
    for name, result in results.items():
        if "failed" in result or first is None:
            why = result.get("failed", "not measured")[:200]
            rows.append(_row(name, why, *[""] * (len(_HEADS) - 2)))
            continue
        seconds = result["median_s"]
        megabytes = result.get("peak_device_mb", result.get("peak_rss_mb", 0))
        rows.append(
            _row(
                name,
                f"{1e3 * seconds:.3f}" if seconds < 0.01 else f"{1e3 * seconds:.1f}",
                f"{ratio(first, result['step_s']):.2f}{_range(first, result['step_s'])}",
                f"{ratio(result['step_s'], first):.3f}",
                f"{result['runs'] * batch_size / seconds:,.0f}",
                f"{result['first_call_s']:.1f}",
                f"{megabytes:.0f}",
            )
        )
    return rows


def markdown(figures: dict[str, Any]) -> str:
    """All groups as tables, the rates, floors and derived figures as lists."""
    lines: list[str] = []
    for name, results in figures["groups"].items():
        lines += [f"### {figures['titles'][name]}", ""]
        if name == "rates":
            rates = results["rates"]
            lines += [f"- {k}: {v:.3g}" for k, v in rates.items() if k.endswith("_a_second")]
            lines += [f"- {rates['failed']}"] if "failed" in rates else []
        else:
            lines += group_rows(results)
        lines.append("")
    for section in ("floors", "derived", "compilation"):
        if section not in figures:
            continue
        lines += [f"### {section.capitalize()}", ""]
        lines += [f"- {k}: {_short(v)}" for k, v in figures[section].items()]
        lines.append("")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plot(figures: dict[str, Any], path: pathlib.Path) -> None:
    """Bars of milliseconds a step, one panel a group."""
    from matplotlib.figure import Figure

    groups = {
        name: {n: r for n, r in results.items() if "median_s" in r}
        for name, results in figures["groups"].items()
        if name != "rates"
    }
    groups = {name: results for name, results in groups.items() if results}
    if not groups:
        return
    sizes = [len(results) + 1 for results in groups.values()]
    figure = Figure(figsize=(9, 0.32 * sum(sizes) + 1), layout="constrained")
    axes = figure.subplots(len(groups), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for ax, (name, results) in zip(axes, groups.items(), strict=True):
        names = list(results)[::-1]
        values = [1e3 * results[n]["median_s"] for n in names]
        bars = ax.barh(names, values, color="0.6")
        ax.bar_label(bars, [f"{v:.3g}" for v in values], padding=3, fontsize=8)
        ax.set_title(f"{figures['titles'][name]}, ms a step", fontsize=9, loc="left")
        ax.tick_params(labelsize=8)
        ax.margins(x=0.12)
    figure.savefig(path, dpi=110)
