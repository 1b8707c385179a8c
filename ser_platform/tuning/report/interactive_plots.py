"""Interactive figures of a study for a page that works offline.

They do not use WebGL: plotly compiles its shaders with `eval`, which the page's content security policy forbids.
"""

import json
from html import escape

import numpy as np

from ser_platform.tuning.report.axis_effects import format_value
from ser_platform.tuning.report.figures import ACCENT, INK, PALE
from ser_platform.tuning.report.trial_table import Trial, TrialTable
from ser_platform.tuning.study.trial_outcome import Outcome


def read_plotly_js() -> str:
    """Return the source of plotly.js."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def draw_plots(table: TrialTable) -> dict[str, str]:
    """Return figures as plotly's JSON by title; settings are escaped, because plotly renders markup."""
    if not table.scored:
        return {}
    # A closing script tag inside a setting would end the page's script.
    figure = json.dumps(_draw_history(table)).replace("</", "<\\/")
    return {"dev UAR of each trial (hover for its settings)": figure}


def _draw_history(table: TrialTable) -> dict[str, object]:
    best = np.maximum.accumulate([trial.best_dev_uar for trial in table.scored]).tolist()
    line = {"mode": "lines", "name": "best so far", "line": {"shape": "hv", "color": ACCENT}}
    traces = [{"type": "scatter", **line, "x": [trial.number for trial in table.scored], "y": best}]
    for is_complete, name, symbol, colour in ((True, "complete", "circle", INK), (False, "stopped early", "x", PALE)):
        part = [trial for trial in table.scored if (trial.state == Outcome.COMPLETE) == is_complete]
        markers = {"mode": "markers", "name": name, "marker": {"symbol": symbol, "color": colour, "size": 8}}
        numbers, scores = [trial.number for trial in part], [trial.best_dev_uar for trial in part]
        hover_texts = [_format_hover_text(trial) for trial in part]
        traces.append({"type": "scatter", **markers, "x": numbers, "y": scores, "text": hover_texts})
    layout = {
        "xaxis": {"title": {"text": "trial"}},
        "yaxis": {"title": {"text": "best dev UAR of the trial"}},
        "legend": {"orientation": "h", "y": 1.12},
        "margin": {"t": 30, "r": 20},
        "template": "none",
    }
    return {"data": traces, "layout": layout}


def _format_hover_text(trial: Trial) -> str:
    settings = "<br>".join(f"{escape(name)}: {escape(format_value(value))}" for name, value in trial.params.items())
    return f"trial {trial.number}, {escape(trial.state)}<br>{settings}"
