"""Interactive figures of a study for a page that works offline: the search, and every trial's settings."""

import json
from html import escape

import numpy as np

from ser_platform.evaluation.effects import text
from ser_platform.evaluation.importance import Importance
from ser_platform.evaluation.study_figures import ACCENT, INK, LINES, PALE, parallel_height
from ser_platform.evaluation.trial_table import COMPLETE, NUMERIC, SearchedAxis, Trial, TrialTable


def plotly_js() -> str:
    """Return plotly.js, to be put into a page once."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def plots(table: TrialTable, found: Importance) -> dict[str, str]:
    """Return figures as plotly's JSON by title; text of settings is escaped, because plotly draws markup."""
    if not table.scored:
        return {}
    made = {"The search, trial by trial (hover for the settings)": _history(table)}
    if len(table.axes) > 1 and len(table.scored) > 1:
        made["Every trial's settings (drag along an axis to select)"] = _parallel(table, found)
    # A closing script tag inside a setting would end the page's script.
    return {title: json.dumps(figure).replace("</", "<\\/") for title, figure in made.items()}


def _history(table: TrialTable) -> dict[str, object]:
    best = np.maximum.accumulate([trial.score for trial in table.scored])
    traces: list[dict[str, object]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "line": {"shape": "hv", "color": ACCENT},
            "x": [trial.number for trial in table.scored],
            "y": best.tolist(),
        }
    ]
    for is_complete, name, symbol, colour in ((True, "complete", "circle", INK), (False, "stopped early", "x", PALE)):
        part = [trial for trial in table.scored if (trial.state == COMPLETE) == is_complete]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "marker": {"symbol": symbol, "color": colour, "size": 8},
                "x": [trial.number for trial in part],
                "y": [trial.score for trial in part],
                "text": [_told(trial) for trial in part],
            }
        )
    layout = {
        "xaxis": {"title": {"text": "trial"}},
        "yaxis": {"title": {"text": "best dev UAR of the trial"}},
        "legend": {"orientation": "h", "y": 1.12},
        "margin": {"t": 30, "r": 20},
        "template": "none",
    }
    return {"data": traces, "layout": layout}


def _told(trial: Trial) -> str:
    settings = "<br>".join(f"{escape(name)}: {escape(text(value))}" for name, value in trial.params.items())
    return f"trial {trial.number}, {escape(trial.state)}<br>{settings}"


def _parallel(table: TrialTable, found: Importance) -> dict[str, object]:
    shown = ([each.axis for each in found.axes] or list(table.axes))[:LINES]
    scores = table.final_scores.tolist()
    dimensions = [_dimension(table, axis) for axis in shown]
    low, high = min(scores), max(scores)
    dimensions.append({"label": "dev UAR", "values": scores, "range": [low, high if high > low else low + 0.01]})
    line = {"color": scores, "colorscale": "Cividis", "showscale": False}
    return {
        "data": [{"type": "parcoords", "line": line, "dimensions": dimensions, "labelangle": -20}],
        "layout": {"margin": {"t": 90, "l": 90, "r": 60, "b": 30}},
    }


def _dimension(table: TrialTable, axis: SearchedAxis) -> dict[str, object]:
    """Return an axis between 0 and 1, below which the trials stand in which it did not exist."""
    values = table.values(axis)
    heights = [-0.15 if value is None else parallel_height(axis, value) for value in values]
    if axis.kind == NUMERIC:
        low, high = axis.values
        middle = (low * high) ** 0.5 if axis.is_log else (low + high) / 2
        ticks = {0.0: text(low), 0.5: f"{middle:.3g}", 1.0: text(high)}
    else:
        ticks = {height: text(value) for height, value in zip(heights, values, strict=True) if value is not None}
        if axis.kind != "categorical":
            ticks = {place / max(len(axis.values) - 1, 1): name for place, name in enumerate(axis.values)}
    if None in values:
        ticks[-0.15] = "not there"
    return {
        "label": escape(axis.name),
        "values": heights,
        "range": [-0.15 if None in values else 0, 1],
        "tickvals": list(ticks),
        "ticktext": [escape(str(name)) for name in ticks.values()],
    }
