"""What an API's headers say about its quota, in the dialects of real vendors."""

from __future__ import annotations

import http.client
import math
import types
from collections.abc import Mapping

import attrs
import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arbprov import MinDelay, ProviderApp, RateLimited, TaskContext, TokenBucket
from arbprov.limits.headers import ApiAnswer, _read_list, read_answer, read_response

# 2026-01-01 00:00:00 UTC, in seconds since 1970.
NOW = 1767225600


@attrs.frozen
class Dialect:
    """A vendor's headers, as its documentation has them, with moments near `NOW`."""

    documented: str
    headers: Mapping[str, str]
    answer: ApiAnswer
    names: Mapping[str, str] = {}
    status: int = 200


DIALECTS = {
    "GitHub": Dialect(
        "https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api",
        {
            "x-ratelimit-limit": "5000",
            "x-ratelimit-remaining": "4966",
            "x-ratelimit-used": "34",
            "x-ratelimit-reset": str(NOW + 1800),
            "x-ratelimit-resource": "core",
        },
        ApiAnswer(5000, 4966, 1800),
    ),
    "GitHub, limit used up": Dialect(
        "https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api",
        {
            "x-ratelimit-limit": "5000",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(NOW + 600),
        },
        ApiAnswer(5000, 0, 600, is_throttled=True, retry_after=600),
        status=403,
    ),
    "GitHub, secondary limit": Dialect(
        "https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api",
        {
            "x-ratelimit-limit": "5000",
            "x-ratelimit-remaining": "4000",
            "x-ratelimit-reset": str(NOW + 600),
            "retry-after": "60",
        },
        ApiAnswer(5000, 4000, 600, is_throttled=True, retry_after=60),
        status=403,
    ),
    "GitLab": Dialect(
        "https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/",
        {
            "RateLimit-Limit": "60",
            "RateLimit-Name": "throttle_authenticated_web",
            "RateLimit-Observed": "67",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(NOW + 30),
            "RateLimit-ResetTime": "Thu, 01 Jan 2026 00:00:30 GMT",
            "Retry-After": "30",
        },
        ApiAnswer(60, 0, 30, is_throttled=True, retry_after=30),
        status=429,
    ),
    "X": Dialect(
        "https://docs.x.com/fundamentals/rate-limits",
        {
            "x-rate-limit-limit": "900",
            "x-rate-limit-remaining": "847",
            "x-rate-limit-reset": str(NOW + 900),
        },
        ApiAnswer(900, 847, 900),
    ),
    "Reddit": Dialect(
        "https://github.com/reddit-archive/reddit/wiki/API",
        {
            "X-Ratelimit-Used": "4",
            "X-Ratelimit-Remaining": "596.0",
            "X-Ratelimit-Reset": "300",
        },
        ApiAnswer(600, 596, 300),
    ),
    "Shopify": Dialect(
        "https://shopify.dev/docs/api/admin-rest/usage/rate-limits",
        {"X-Shopify-Shop-Api-Call-Limit": "32/40"},
        ApiAnswer(40, 8),
        {"used": "X-Shopify-Shop-Api-Call-Limit"},
    ),
    "Shopify, throttled": Dialect(
        "https://shopify.dev/docs/api/admin-rest/usage/rate-limits",
        {"X-Shopify-Shop-Api-Call-Limit": "40/40", "Retry-After": "2.0"},
        ApiAnswer(40, 0, is_throttled=True, retry_after=2),
        {"used": "X-Shopify-Shop-Api-Call-Limit"},
        429,
    ),
    "HubSpot": Dialect(
        "https://developers.hubspot.com/docs/api/usage-details",
        {
            "X-HubSpot-RateLimit-Daily": "250000",
            "X-HubSpot-RateLimit-Daily-Remaining": "249500",
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Max": "100",
            "X-HubSpot-RateLimit-Remaining": "99",
        },
        ApiAnswer(100, 99),
        {"limit": "X-HubSpot-RateLimit-Max", "remaining": "X-HubSpot-RateLimit-Remaining"},
    ),
    "Discord": Dialect(
        "https://docs.discord.com/developers/topics/rate-limits",
        {
            "X-RateLimit-Limit": "5",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": f"{NOW + 9}.123",
            "X-RateLimit-Reset-After": "1.25",
            "X-RateLimit-Bucket": "abcd1234",
        },
        ApiAnswer(5, 0, 1.25),
    ),
    "Slack": Dialect(
        "https://docs.slack.dev/apis/web-api/rate-limits",
        {"Retry-After": "30"},
        ApiAnswer(is_throttled=True, retry_after=30),
        status=429,
    ),
    "Okta": Dialect(
        "https://developer.okta.com/docs/reference/rl-best-practices/",
        {
            "X-Rate-Limit-Limit": "1200",
            "X-Rate-Limit-Remaining": "1199",
            "X-Rate-Limit-Reset": str(NOW + 59),
        },
        ApiAnswer(1200, 1199, 59),
    ),
    "Zendesk": Dialect(
        "https://developer.zendesk.com/documentation/api-basics/best-practices/"
        "best-practices-for-avoiding-rate-limiting",
        {
            "x-rate-limit": "700",
            "ratelimit-limit": "700",
            "x-rate-limit-remaining": "699",
            "ratelimit-remaining": "699",
            "ratelimit-reset": "41",
            "zendesk-ratelimit-tickets-index": "total=100; remaining=99; resets=41",
        },
        ApiAnswer(700, 699, 41),
    ),
    "Zendesk, outside of lists": Dialect(
        "https://developer.zendesk.com/documentation/api-basics/best-practices/"
        "best-practices-for-avoiding-rate-limiting",
        {"X-Rate-Limit": "700", "X-Rate-Limit-Remaining": "699"},
        ApiAnswer(700, 699),
        {"limit": "X-Rate-Limit", "remaining": "X-Rate-Limit-Remaining"},
    ),
    "OpenAI": Dialect(
        "https://platform.openai.com/docs/guides/rate-limits",
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        ApiAnswer(150000, 149984, 360),
        {
            "limit": "x-ratelimit-limit-tokens",
            "remaining": "x-ratelimit-remaining-tokens",
            "reset": "x-ratelimit-reset-tokens",
        },
    ),
    "Anthropic": Dialect(
        "https://docs.anthropic.com/en/api/rate-limits",
        {
            "anthropic-ratelimit-requests-limit": "1000",
            "anthropic-ratelimit-requests-remaining": "999",
            "anthropic-ratelimit-requests-reset": "2026-01-01T00:01:00Z",
        },
        ApiAnswer(1000, 999, 60),
        {
            "limit": "anthropic-ratelimit-requests-limit",
            "remaining": "anthropic-ratelimit-requests-remaining",
            "reset": "anthropic-ratelimit-requests-reset",
        },
    ),
    "Linear": Dialect(
        "https://linear.app/developers/rate-limiting",
        {
            "X-RateLimit-Requests-Limit": "5000",
            "X-RateLimit-Requests-Remaining": "4999",
            "X-RateLimit-Requests-Reset": str((NOW + 3600) * 1000),
        },
        ApiAnswer(5000, 4999, 3600),
        {
            "limit": "X-RateLimit-Requests-Limit",
            "remaining": "X-RateLimit-Requests-Remaining",
            "reset": "X-RateLimit-Requests-Reset",
        },
    ),
    "Atlassian": Dialect(
        "https://developer.atlassian.com/cloud/jira/platform/rate-limiting/",
        {
            "X-RateLimit-Limit": "350",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "2026-01-01T00:01Z",
            "RateLimit-Reason": "jira-burst-based",
            "Retry-After": "25",
        },
        ApiAnswer(350, 0, 60, is_throttled=True, retry_after=25),
        status=429,
    ),
    "Vimeo": Dialect(
        "https://developer.vimeo.com/guidelines/rate-limiting",
        {
            "X-RateLimit-Limit": "100",
            "X-RateLimit-Remaining": "97",
            "X-RateLimit-Reset": "2026-01-01T00:15:00+00:00",
        },
        ApiAnswer(100, 97, 900),
    ),
    "Cloudflare": Dialect(
        "https://developers.cloudflare.com/fundamentals/api/reference/limits",
        {"Ratelimit": '"default";r=50;t=30', "Ratelimit-Policy": '"default";q=100;w=60'},
        ApiAnswer(100, 50, 30),
    ),
    "MailerLite": Dialect(
        "https://developers-classic.mailerlite.com/docs/api-rate-limits",
        {
            "X-RateLimit-Limit": "60",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "2026-01-01 00:00:50",
            "X-RateLimit-Retry-After": "50",
        },
        ApiAnswer(60, 0, 50, is_throttled=True, retry_after=50),
        {
            "limit": "X-RateLimit-Limit",
            "remaining": "X-RateLimit-Remaining",
            "reset": "X-RateLimit-Reset",
            "retry_after": "X-RateLimit-Retry-After",
        },
        429,
    ),
    "express-rate-limit, draft 7": Dialect(
        "https://express-rate-limit.mintlify.app/reference/configuration",
        {"RateLimit": "limit=100, remaining=25, reset=30", "RateLimit-Policy": "100;w=60"},
        ApiAnswer(100, 25, 30),
    ),
}


@pytest.mark.parametrize("vendor", DIALECTS)
def test_a_vendor_s_dialect_is_understood(vendor):
    dialect = DIALECTS[vendor]
    assert dialect.documented.startswith("https://")
    answer = read_answer(dialect.status, dialect.headers.items(), NOW, dialect.names)
    assert answer == dialect.answer


def read(status=200, /, names=None, policy=None, **headers):
    items = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return read_answer(status, items, NOW, names, policy)


# Throttling.


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("30", 30),
        (" 30 ", 30),
        ("0.5", 0.5),
        ("0", 1),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 120),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1),
        ("2026-01-01T00:00:10.5Z", 10.5),
        ("2026-01-01T00:00:10.123456789Z", 10.123456),
        (str(NOW + 20), 20),
        ("999999999999999", 366 * 86400),
        ("99999999999999999999999", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1" * 2000, None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(retry_after, seconds):
    answer = read(429, Retry_After=retry_after)
    assert (answer.is_throttled, answer.retry_after) == (True, pytest.approx(seconds))


def test_a_retry_after_goes_before_a_reset():
    answer = read(429, Retry_After="5", X_RateLimit_Reset="60")
    assert (answer.retry_after, answer.reset_in) == (5, 60)


def test_without_a_retry_after_the_reset_counts():
    assert read(429, X_RateLimit_Reset="60").retry_after == 60


@pytest.mark.parametrize("status", [200, 302, 400, 404, 500, 502])
def test_other_statuses_throttle_nothing(status):
    assert not read(status, Retry_After="30", X_RateLimit_Remaining="0").is_throttled


@pytest.mark.parametrize("status", [403, 503])
def test_a_503_throttles_only_with_a_retry_after(status):
    assert read(status, Retry_After="30").is_throttled
    assert not read(status).is_throttled
    assert not read(status, Retry_After="soon").is_throttled


def test_a_moment_is_by_the_clock_of_the_api():
    answer = read(429, Date="Thu, 01 Jan 2026 01:00:00 GMT", X_RateLimit_Reset=str(NOW + 3660))
    assert answer.retry_after == 60


# Quotas.


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("6m0s", 360), ("20ms", 0.02), ("1h30m", 5400), ("1d", 86400), ("1.5s", 1.5), ("0s", 1)],
)
def test_a_reset_may_be_a_duration(duration, seconds):
    assert read(x_ratelimit_reset=duration).reset_in == seconds


@pytest.mark.parametrize("value", ["", "-1", "many", "x5", "٣"])
def test_what_is_not_a_number_says_nothing(value):
    assert read(x_ratelimit_limit=value, x_ratelimit_remaining=value) == ApiAnswer()


def test_a_list_of_numbers_begins_with_the_quota():
    assert read(ratelimit_limit="100, 100;w=60", ratelimit_remaining="40").used == 0.6


def test_a_repeated_header_is_a_list():
    items = [
        ("RateLimit-Policy", '"a";q=10'),
        ("ratelimit-policy", '"b";q=5'),
        ("RateLimit", "b;r=1"),
    ]
    assert read_answer(200, items, NOW) == ApiAnswer(5, 1)


def test_a_header_in_bytes_is_left_out():
    items = [(b"RateLimit-Remaining", b"5"), ("X-RateLimit-Remaining", b"5"), ("RateLimit", None)]
    assert read_answer(200, items, NOW) == ApiAnswer()


def test_so_many_headers_are_not_read():
    items = [(f"X-{number}", "1") for number in range(1000)] + [("X-RateLimit-Remaining", "5")]
    assert read_answer(200, items, NOW) == ApiAnswer()
    assert read_answer(200, items[1:], NOW).remaining == 5


@pytest.mark.parametrize(
    ("limit", "remaining", "used"),
    [(10, 4, 0.6), (10, 0, 1), (10, 20, 0), (0, 0, None), (None, 3, None), (10, None, None)],
)
def test_the_share_that_is_used(limit, remaining, used):
    assert ApiAnswer(limit, remaining).used == used


def test_of_several_policies_the_most_used_counts():
    field = '"day";r=500;t=3600, "burst";r=1;t=5, "unknown";r=0'
    answer = read(RateLimit=field, RateLimit_Policy='"day";q=1000;w=86400, "burst";q=10;w=10')
    assert answer == ApiAnswer(10, 1, 5)


def test_a_policy_may_be_named():
    field = '"day";r=500;t=3600, "burst";r=1;t=5'
    policies = '"day";q=1000, "burst";q=10'
    assert read(RateLimit=field, RateLimit_Policy=policies, policy="day").limit == 1000


def test_a_policy_without_a_remaining_says_nothing():
    assert read(RateLimit='"day";t=30, "burst";r=-1, "other";r=1.5') == ApiAnswer()


def test_names_of_the_vendor_go_first():
    names = {"remaining": "X-Left"}
    assert read(X_Left="3", X_RateLimit_Remaining="5", names=names).remaining == 3
    assert read(X_RateLimit_Remaining="5", names=names).remaining == 5


# Structured fields, beside a library that reads them.


def ours(value):
    return [(name, numbers) for name, numbers in _read_list(value)]


def theirs(value):
    """Return what http-sf reads; an empty list if the field is not well-formed."""
    try:
        members = http_sf.parse(value.encode("ascii"), tltype="list")
    except (http_sf.StructuredFieldError, UnicodeEncodeError):
        return []
    found = []
    for member, parameters in members:
        if isinstance(member, (str, http_sf.Token)) and not isinstance(
            member, http_sf.DisplayString
        ):
            numbers = {key: n for key, n in parameters.items() if type(n) is int}
            found.append((str(member), numbers))
    return found


KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,3}", fullmatch=True) | st.sampled_from("qrtw")
VALUES = (
    st.integers(-(10**15) + 1, 10**15 - 1)
    | st.booleans()
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=5)
    | st.from_regex(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]{0,4}", fullmatch=True).map(
        http_sf.Token
    )
    | st.decimals(-1000, 1000, places=3)
    | st.binary(max_size=5)
)
MEMBERS = st.tuples(VALUES, st.dictionaries(KEYS, VALUES, max_size=3))
LISTS = st.lists(
    MEMBERS | st.tuples(st.lists(MEMBERS, max_size=2), st.just({})), min_size=1, max_size=4
)


@given(LISTS)
def test_a_well_formed_list_is_read_as_a_library_reads_it(members):
    value = http_sf.ser(members)
    assert ours(value) == theirs(value)


@given(st.text(st.sampled_from('a"q1;=, \t\\()*-.?@/Z'), max_size=20))
@example('"a";q=1,')
@example('"a";q=1;q=2')
@example("a;q=1.;r=2")
@example("(a b);q=1, c;r=3")
@example("a;q=-0")
def test_any_text_is_read_as_a_library_reads_it(value):
    if value.strip(" \t") == value.strip(" "):  # a tab at an end is for the HTTP library to drop
        assert ours(value) == theirs(value)


# Responses of libraries.


def test_a_response_of_any_library_is_read():
    message = http.client.HTTPMessage()
    message["X-RateLimit-Remaining"] = "3"
    for response in (
        types.SimpleNamespace(status_code=200, headers={"X-RateLimit-Remaining": "3"}),
        types.SimpleNamespace(status=200, headers={"x-ratelimit-remaining": "3"}),
        types.SimpleNamespace(status=200, headers=message),
    ):
        assert read_response(response, NOW).remaining == 3


@pytest.mark.parametrize(
    "response",
    [None, 429, {"status": 200}, types.SimpleNamespace(status="200", headers={})],
    ids=repr,
)
def test_what_is_not_a_response_is_refused(response):
    with pytest.raises(TypeError, match=r"is not a response: it needs a status_code or a status"):
        read_response(response, NOW)


# What it does to limits.


def observing(*limits, **options):
    """Return an app whose ``work`` observes a response of the payload's status and headers."""
    app = ProviderApp(execution_timeout=60)

    def work(ctx: TaskContext, status: int = 200, headers: dict = {}, limit: str = "vendor"):  # noqa: B006
        response = types.SimpleNamespace(status_code=status, headers=headers)
        ctx.limits.observe(response, limit=limit, **options)

    for limit, declared in limits:
        app.rate_limit(limit, **{"name": "vendor"} | declared)(work)
    app.action("work")(work)
    return app


def each_kind(test):
    return pytest.mark.parametrize("manual", [False, True], ids=["automatic", "manual"])(test)


def left(client, **key):
    return [one.remaining for one in client.limits.headroom("work", **key)]


@each_kind
def test_a_429_starts_a_cooldown_of_its_limit_and_key(manual):
    limits = ("10/hour", {"manual": manual, "key": "account.id"}), ("99/day", {"name": "other"})
    client = observing(*limits).test_client()
    throttled = {"status": 429, "headers": {"Retry-After": "30"}}
    result = client.call("work", throttled, account={"id": 1})
    assert (result.status.value, result.wait_time) == ("limit", 30)
    waits = [h.wait_time for one in (1, 2) for h in client.limits.headroom("work", key=one)]
    assert sorted(waits) == [0, 0, 0, 30]
    client.clock.advance(29)
    # Its length counts from the response.
    assert client.call("work", account={"id": 1}).wait_time == (None if manual else 1)


@each_kind
def test_the_cooldown_runs_even_if_the_handler_catches_the_error(manual):
    app = ProviderApp()

    @app.action
    @app.rate_limit("10/hour", name="vendor", manual=manual)
    def work(ctx: TaskContext):
        response = types.SimpleNamespace(status_code=503, headers={"Retry-After": "30"})
        with pytest.raises(RateLimited) as raised:
            ctx.limits.observe(response, limit="vendor")
        return [raised.value.limit, raised.value.retry_after]

    client = app.test_client()
    assert client.call("work").data == ["vendor", 30]
    assert client.limits.headroom("work")[0].wait_time == 30


@pytest.mark.parametrize(
    ("limit", "seconds"), [("10/second", 1.001), ("10/minute", 60), ("10/hour", 60)]
)
def test_a_429_that_says_no_more_is_a_period_or_a_minute(limit, seconds):
    client = observing((limit, {})).test_client()
    assert client.call("work", {"status": 429}).wait_time == pytest.approx(seconds)


@each_kind
def test_the_api_s_count_raises_the_limit_s(manual):
    client = observing(("100/minute", {"manual": manual})).test_client()
    headers = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "25", "X-RateLimit-Reset": "30"}
    client.call("work", {"headers": headers})
    assert left(client) == [25]
    client.clock.advance(30.1)
    assert left(client) == [100 if manual else 99]


def test_it_is_a_share_if_the_sizes_differ_a_little():
    client = observing(("98/minute", {})).test_client()
    client.call("work", {"headers": {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "50"}})
    assert left(client) == [49]


def test_a_much_smaller_limit_admits_what_the_api_has_left():
    client = observing(("100/minute; 5000/hour", {})).test_client()
    client.call("work", {"headers": {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4000"}})
    assert left(client) == [99, 4000]
    client.call("work", {"headers": {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "7"}})
    assert left(client) == [7, 7]


def test_a_remaining_alone_is_enough():
    client = observing(("100/minute", {})).test_client()
    client.call("work", {"headers": {"X-RateLimit-Remaining": "7"}})
    assert left(client) == [7]


@pytest.mark.parametrize(
    "limit", [MinDelay(1), TokenBucket(requests_per_minute=60, burst_size=10)], ids=str
)
def test_a_pace_stays_as_it_is_while_the_api_has_much_left(limit):
    client = observing((limit, {"manual": True})).test_client()
    headers = {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "500"}
    before = left(client)
    client.call("work", {"headers": headers})
    assert left(client) == before


def test_a_count_is_never_lowered():
    client = observing(("10/hour", {})).test_client()
    for _ in range(3):
        client.call("work", {"headers": {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "10"}})
    assert left(client) == [7]


def test_names_of_the_api_s_own_headers():
    client = observing(("40/minute", {}), headers={"used": "X-Calls"}).test_client()
    client.call("work", {"headers": {"X-Calls": "32/40"}})
    assert left(client) == [8]


@pytest.mark.parametrize("names", [{"remains": "X-Left"}, {"remaining": 3}])
def test_names_that_say_nothing_are_refused(names):
    message = observing(("1/hour", {}), headers=names).test_client().call("work").message
    assert message.startswith("headers={")
    assert message.endswith(
        "is not understood; it maps 'limit', 'remaining', 'used', 'reset', 'retry_after' to the "
        "names of the API's own headers"
    )


@each_kind
def test_a_limit_that_the_call_does_not_have_is_refused(manual):
    client = observing(("10/hour", {"manual": manual})).test_client()
    message = client.call("work", {"limit": "other"}).message
    assert message == "this call has no limit 'other'; it has 'vendor', '10/hour'"


def test_without_limits_nothing_can_be_observed():
    message = observing().test_client().call("work").message
    assert message == "this call has no limit 'vendor'; it has none"


def test_a_response_ends_the_probe_of_its_limit_at_once():
    app = ProviderApp()

    @app.action
    @app.rate_limit("10/hour", name="vendor", manual=True)
    def work(ctx: TaskContext, status: int, name: str):
        ctx.limits.acquire("vendor")
        response = types.SimpleNamespace(status=status, headers={"Retry-After": "30"})
        if status == 200:
            # What the API says to the first call is not known yet.
            with pytest.raises(RateLimited):
                ctx.limits.acquire("vendor")
        ctx.limits.observe(response, limit=name)
        ctx.limits.acquire("vendor")

    client = app.test_client()
    for name in ("vendor", "10/hour"):
        assert client.call("work", {"status": 429, "name": name}).wait_time == 30
        client.clock.advance(30)
        assert client.call("work", {"status": 200, "name": name}).status.value == "success"


TEXT = st.text(max_size=30) | st.from_regex(r"[\d.;=\"a-z, :+-]{0,30}") | st.integers().map(str)
KNOWN = [name.lower() for dialect in DIALECTS.values() for name in dialect.headers]
HEADERS = st.dictionaries(st.sampled_from(KNOWN) | TEXT, TEXT, max_size=8)


@given(
    st.integers(100, 599) | st.sampled_from([200, 403, 429, 503]),
    HEADERS,
    st.sampled_from(list(DIALECTS.values())),
)
@example(429, {"retry-after": "1e400"}, DIALECTS["X"])
@example(200, {"date": "Thu, 01 Jan 0000 00:00:00 GMT"}, DIALECTS["X"])
@example(200, {"date": "Thu, 01 Jan 2026 00:00:00 -9999"}, DIALECTS["X"])
def test_no_headers_raise_anything_but_rate_limited(status, headers, dialect):
    client = FUZZED[0]
    payload = {"status": status, "headers": headers, "limit": "vendor"}
    answer = read_answer(status, headers.items(), NOW, dialect.names)
    for seconds in (answer.reset_in, answer.retry_after):
        assert seconds is None or 0 < seconds <= 366 * 86400
    assert answer.remaining is None or 0 <= answer.remaining < math.inf
    result = client.call("work", payload)
    throttles = status in (403, 429, 503)
    assert result.status.value in (("success", "limit") if throttles else ("success",))
    client.clock.advance(367 * 86400)


FUZZED = [observing(("10/hour", {"manual": True}), ("5/second", {"manual": True})).test_client()]
