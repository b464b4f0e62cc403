"""``arbprov hub``."""

from __future__ import annotations

import json

import click

from arbprov._utils import is_positive_number
from arbprov.cli.hub_http import find_http_address, http_option
from arbprov.cli.hub_summary import describe_hub
from arbprov.cli.hub_tokens import HubToken, hub_token_options, make_hub_token
from arbprov.cli.options import ADDRESS, check, json_option
from arbprov.cli.output import echo
from arbprov.cli.signals import catch_interruption
from arbprov.cli.state_folder import make_state_folder, shorten_home

__all__ = ["hub"]

# In seconds.
_DAY = 24 * 3600.0


@click.command()
@click.option(
    "--address", metavar="HOST:PORT", default=ADDRESS, show_default=True, help="Where to listen."
)
@http_option
@click.option(
    "--allow-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help=(
        "A name by which other machines reach the page and the API, e.g. through a proxy that "
        "encrypts; --http may be any address then. May be given several times."
    ),
)
@click.option(
    "--store",
    envvar="ARBPROV_HUB_STORE",
    metavar="STORE",
    show_envvar=True,
    help=(
        "Where the tasks are kept: memory, sqlite:PATH or postgresql://USER@HOST/DATABASE. "
        "Set a password by the variable, since every user of this machine can see options.  "
        "[default: SQLite in your state folder]"
    ),
)
@hub_token_options
@click.option(
    "--lease",
    metavar="SECONDS",
    type=float,
    default=600,
    show_default=True,
    callback=check(is_positive_number, "must be greater than 0"),
    help=(
        "Hand a task out again if no result comes for so long; at most 60 if the task's provider "
        "renews its leases, as arbprov's do."
    ),
)
@click.option(
    "--keep-days",
    metavar="DAYS",
    type=float,
    default=7,
    show_default=True,
    callback=check(is_positive_number, "must be greater than 0"),
    help="Forget tasks that ended so long ago; of the others, the latest million that ended stay.",
)
@json_option("Print the addresses, the store and the token as JSON.")
def hub(
    address: str,
    http: str | None,
    allowed_hosts: tuple[str, ...],
    store: str | None,
    token: HubToken,
    lease: float,
    keep_days: float,
    as_json: bool,
) -> None:
    """Run the bundled hub until Ctrl-C.

    By default, it listens on this machine only, and keeps its tasks across restarts. `arbprov call`
    sends it tasks.

    Its token allows everything. Without an option or a variable, the hub makes a token once, in a
    file that only you can read; `call`, `tasks`, `tokens` and `dev` read it there.
    """
    # gRPC is slow to import, and most commands need none.
    from arbprov.localhub import LocalHub

    token = make_hub_token(token)
    store = store or f"sqlite:{make_state_folder() / 'hub.sqlite'}"
    running = LocalHub(
        address,
        token=token.value,
        store=store,
        lease=lease,
        keep=keep_days * _DAY,
        retries_limits=True,
        http=find_http_address(http),
        allowed_hosts=allowed_hosts,
    )
    with catch_interruption() as interruption, running:
        if as_json:
            described = {
                "address": running.address,
                "http": running.http_address and f"http://{running.http_address}",
                "store": running.store,
                "token": token.value,
            }
            echo(json.dumps(described))
        else:
            lines = [*describe_hub(running), f"Providers need {_provider_setting(token)}"]
            echo("\n".join(lines), err=True)
        interruption.wait()


def _provider_setting(token: HubToken) -> str:
    """Return the variable by which providers get the hub's token."""
    if token.file:
        return f"PROVIDER_AUTH_TOKEN_FILE={shorten_home(token.file)}"
    return "PROVIDER_AUTH_TOKEN, the hub's token"
