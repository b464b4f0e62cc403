"""An ads provider in blueprints: a business, its campaigns, and their metrics, by one HTTP API.

Each blueprint is a module, and `vendor` is what they share. With `pip install httpx`, and with
`sample_api` for the vendor's:

    cd examples
    python -m ads.sample_api &
    arbprov dev ads.app --tasks ads/tasks.jsonl
    kill %1

ADS_API_URL is the address of another API.
"""

import httpx

from ads.business import business
from ads.campaigns import campaigns
from ads.metrics import metrics
from ads.vendor import ApiError, api
from arbprov import ProviderApp, ProviderResponse, TaskContext

# The vendor admits so many requests of the provider, whoever they are for.
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
