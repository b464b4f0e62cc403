"""Providers that the tests of the commands run."""

from __future__ import annotations

PROVIDER = '''
import os
import sys
import time
from arbprov import ProviderApp, ProviderResponse

app = ProviderApp("typed", execution_timeout=20)

@app.action
@app.rate_limit("1/hour", key=("account.id", "payload.n"))
def square(n: int) -> dict:
    """Square a number."""
    return {"square": n * n}

@app.action(timeout=0.01)
def slow() -> dict:
    time.sleep(0.05)
    return {}

@app.action
def so_so() -> ProviderResponse:
    return ProviderResponse("warning", message="Only half of it")

@app.action
def fail() -> dict:
    return 1 / 0

@app.action
def linger() -> dict:
    print("lingering", file=sys.stderr, flush=True)
    while not os.path.exists("interrupted"):
        time.sleep(0.01)
    return {}

@app.action
def ask() -> dict:
    print("asking", file=sys.stderr, flush=True)
    return {"answer": sys.stdin.readline()}

if __name__ == "__main__":
    app.run()
'''

CLASS_BASED = """
from arbprov.compat import Provider

class Echo(Provider):
    def __init__(self):
        super().__init__(name="class-based")
        self.actions.register("echo", "Echo", {"text": str})(lambda text: {"text": text})
"""
DERIVED = CLASS_BASED + "class Other(Echo):\n    pass\n"
TWICE = DERIVED + "class Another(Echo):\n    pass\n"
