"""The one place that knows plotly: it brings the script that draws the charts."""

from __future__ import annotations

from lamina.errors import MissingExtra


def plotly_script() -> str:
    """The text of plotly.js, about 5 MB, to be laid into a page. Raises MissingExtra without the extra `report`."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtra("report", "plotly") from error
    return str(get_plotlyjs())
