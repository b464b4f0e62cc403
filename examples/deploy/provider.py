"""A provider as it is deployed: in a container, in Kubernetes, or under systemd.

Each file of this folder says in its first lines how it is used; docs/how-to/deploy-a-provider.md
explains them.
"""

from typing import Any

from arbprov import Concurrency, ProviderApp

# The rest is set by the environment: PROVIDER_NAME, HUB_GRPC_URL, PROVIDER_AUTH_TOKEN_FILE,
# ARBPROV_RATE_LIMIT_STORE, ARBPROV_SPOOL and ARBPROV_MONITORING.
app = ProviderApp(rate_limit_namespace="vendor", execution_timeout=30)


@app.action
@app.rate_limit("100/minute", key="account.id", name="vendor", max_wait=5)
@app.rate_limit(Concurrency(5), key="account.id", name="vendor", max_wait=5)
def lookup(id: int) -> dict[str, Any]:
    """Ask the vendor, whose quota counts all calls of an account."""
    return {"id": id, "by": app.name}
