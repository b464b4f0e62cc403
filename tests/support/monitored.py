"""The pages of a provider that is monitored, as a probe and Prometheus get them."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from support.waiting import TIMEOUT, wait_until

_ADDRESS = "serving the monitoring at http://"


class Pages:
    """The pages at an address."""

    def __init__(self, address: str) -> None:
        self.address = address

    def request(self, path: str, method: str = "GET"):
        """Return the status, the headers and the text of a response."""
        request = urllib.request.Request(f"http://{self.address}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    def ask(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page, without its line's end."""
        status, _, text = self.request(path)
        return status, text.strip()

    def until(self, path: str, status: int) -> str:
        """Ask a page until it has a status; return its text."""
        return wait_until(lambda: (answer := self.ask(path))[0] == status and answer)[1]

    def scrape(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return the samples of /metrics: by name, and by the values of their labels, sorted."""
        status, _, text = self.request("/metrics")
        assert status == 200, text
        return parse(text)

    def value(self, name: str, *labels: str) -> float | None:
        """Return a sample; None if there is none."""
        return self.scrape().get(name, {}).get(tuple(sorted(labels)))

    def until_value(self, name: str, *labels: str, is_so) -> float:
        """Scrape until a sample is so; return it."""
        found = []

        def check() -> bool:
            found.append(self.value(name, *labels))
            return found[-1] is not None and is_so(found[-1])

        wait_until(check)
        return found[-1]


def parse(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples of a page."""
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.values()))
            assert labels not in samples.setdefault(sample.name, {}), (sample.name, labels)
            samples[sample.name][labels] = sample.value
    return samples


def address_in(log: str) -> str | None:
    """Return the address that a log tells of; None if it tells of none yet."""
    found = re.search(rf"{_ADDRESS}([^\s\"]+)[\"\n]", log)
    return found[1] if found else None
