"""An ads provider in blueprints: a business, its campaigns, and their metrics, by one HTTP API.

Each blueprint is a module, and they share `vendor`. Run `pip install httpx` first. `sample_api`
stands for the vendor's API:

    cd examples
    python -m ads.sample_api &
    arbprov dev ads.app --tasks ads/tasks.jsonl
    kill %1

Set ADS_API_URL to use another API.
"""

import httpx

from ads.business import business
from ads.campaigns import campaigns
from ads.metrics import metrics
from ads.vendor import ApiError, api
from arbprov import ProviderApp, ProviderResponse, TaskContext

# The vendor admits 50 requests a second from the provider, for all accounts together.
app = ProviderApp("ads", execution_timeout=10, rate_limit="50/second")
app.register_blueprint(business)
app.register_blueprint(campaigns)
app.register_blueprint(metrics)


@app.on_shutdown
async def close_connections() -> None:
    await api.aclose()


@app.errorhandler(ApiError)
def refused(error: ApiError, ctx: TaskContext) -> ProviderResponse:
    ctx.logger.info("the API refuses this with %d: %s", error.status, error)
    return ProviderResponse("error", message=str(error), data={"api_status": error.status})


@app.errorhandler(httpx.TransportError)
def away(error: httpx.TransportError) -> ProviderResponse:
    return ProviderResponse("error", message="The ads API does not answer; try again later")


if __name__ == "__main__":
    app.run()
