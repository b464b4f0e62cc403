"""One quota of two providers, each in a process of its own, counted in Redis.

Run `pip install "arbprov[redis]"` first, and start a Redis server:

    export ARBPROV_HUB_TOKEN=sample-token PROVIDER_AUTH_TOKEN=sample-token
    export HUB_GRPC_URL=127.0.0.1:50051
    arbprov hub &
    PROVIDER_NAME=reports arbprov run examples/shared_redis_limits.py &
    PROVIDER_NAME=campaigns arbprov run examples/shared_redis_limits.py &
    arbprov call lookup '{"id": 1}' --account '{"api_key": "sample"}' --provider reports
    arbprov call lookup '{"id": 1}' --account '{"api_key": "sample"}' --provider campaigns
    kill %1 %2 %3

The sixth call of a minute waits at the hub, whichever provider it is for. While Redis is away, each
provider keeps to its half of the limit.
"""

import os
from typing import Any

from arbprov import ProviderApp

app = ProviderApp(
    rate_limit_store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    # Processes of one provider share its limits without this. Two providers need it.
    rate_limit_namespace="vendor",
)


@app.action
@app.rate_limit("5/minute", key="account.api_key", name="vendor-calls")
def lookup(id: int) -> dict[str, Any]:
    """Ask the vendor, whose quota counts all calls of an account."""
    return {"id": id, "by": app.name}


if __name__ == "__main__":
    app.run()
