"""Two providers in one process that share a limit.

    export ARBPROV_HUB_TOKEN=sample-token PROVIDER_AUTH_TOKEN=sample-token
    export HUB_GRPC_URL=127.0.0.1:50051
    arbprov hub &
    python examples/shared_limit.py &
    arbprov call report '{"campaign": 1}' --provider reports
    arbprov call pause '{"campaign": 1}' --provider campaigns
    kill %1 %2

The fourth call of a minute waits at the hub, whichever provider it is for: `call` gives up after 10
seconds, and says which limit holds the task back.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from arbprov import AdvancedRateLimitMonitor, ProviderApp

# One instance is one limit, in any app. Your own monitor is shared in the same way.
vendor = AdvancedRateLimitMonitor(requests_per_minute=1, burst_size=3)

reports = ProviderApp("reports", rate_limit_monitor=vendor)
campaigns = ProviderApp("campaigns", rate_limit_monitor=vendor)


@reports.action
def report(campaign: int) -> dict[str, Any]:
    """Return the clicks of a campaign."""
    return {"campaign": campaign, "clicks": 0}


@campaigns.action
def pause(campaign: int) -> dict[str, Any]:
    """Stop a campaign for a while."""
    return {"campaign": campaign, "paused": True}


def run_both() -> None:
    """Run one app here, where signals arrive, and the other in a thread; both end together."""
    with ThreadPoolExecutor(1) as thread:
        other = thread.submit(campaigns.run)
        other.add_done_callback(lambda _: reports.stop())
        try:
            reports.run()
        finally:
            campaigns.stop()
        other.result()


if __name__ == "__main__":
    run_both()
