"""Scraping a daemon's metrics as Prometheus does."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, ...], float]

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url: str, accept: str = "text/plain") -> str:
    """Return the response to a GET of *url*."""
    with _opener.open(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def scrape(url: str) -> Series:
    """Return the value of each series by its name and the values of its labels, in the order of the labels' names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(fetch(url))
        for sample in family.samples
    }


def total(series: Series, *names: str) -> int:
    """Return the sum of all series of these metrics."""
    return int(sum(value for (name, *_), value in series.items() if name in names))
