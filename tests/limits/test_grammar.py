"""The grammar of rates: valid texts, invalid texts, and the text of a limit."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbprov import Concurrency, ConfigurationError, Limit
from arbprov.limits import parse_limits

UNITS = {
    1: "s sec secs second seconds",
    60: "m min mins minute minutes",
    3600: "h hr hrs hour hours",
    86_400: "d day days",
    604_800: "w week weeks",
}
SPELLINGS = [(unit, seconds) for seconds, units in UNITS.items() for unit in units.split()]
EXAMPLE = 'write it like "10/minute", "5 per second" or "100/2h burst 20; 1000/day"'


def complaint(text):
    with pytest.raises(ConfigurationError) as caught:
        parse_limits(text)
    return str(caught.value)


# Valid texts.


@pytest.mark.parametrize(("unit", "seconds"), SPELLINGS)
def test_every_spelling_of_a_unit_is_known(unit, seconds):
    assert parse_limits(f"5/{unit}") == (Limit(5, seconds),)


@pytest.mark.parametrize(("unit", "seconds"), SPELLINGS)
def test_a_unit_may_be_counted(unit, seconds):
    assert parse_limits(f"5/3{unit}") == (Limit(5, 3 * seconds),)


@pytest.mark.parametrize("change", [str.upper, str.title, str.swapcase], ids=lambda f: f.__name__)
@pytest.mark.parametrize("text", ["5 per hour burst 2", "5/2h", "5/minute burst=2"])
def test_any_case_will_do(text, change):
    assert parse_limits(change(text)) == parse_limits(text)


@pytest.mark.parametrize(
    "text",
    [
        "100/2h",
        "100 / 2h",
        "100/2 h",
        "100/ 2hours",
        "100 per 2h",
        "100 per 2 hours",
        "100  per  2  hours",
        "100\tper\t2\thours",
        "  100/2h  ",
        "0100/02h",
        "100/120m",
        "100/7200s",
    ],
)
def test_one_limit_has_many_ways_to_be_written(text):
    assert parse_limits(text) == (Limit(100, 7200),)


@pytest.mark.parametrize(
    "text",
    [
        "100/2h burst 20",
        "100/2h burst=20",
        "100/2h burst = 20",
        "100/2h  burst  20",
        "100 per 2 hours burst 20",
    ],
)
def test_a_burst_follows_the_unit(text):
    assert parse_limits(text) == (Limit(100, 7200, burst=20),)


@pytest.mark.parametrize("separator", [";", "; ", " ; ", ",", ", ", "|", " | "], ids=repr)
def test_several_limits_may_be_joined(separator):
    assert parse_limits(f"5/second{separator}100/2h burst 20{separator}9 per day") == (
        Limit(5, 1),
        Limit(100, 7200, burst=20),
        Limit(9, 86_400),
    )


def test_a_burst_may_be_as_large_as_the_limit():
    assert parse_limits("5/second burst 5") == (Limit(5, 1, burst=5),)


def test_the_period_is_in_seconds():
    assert parse_limits("1/2h")[0].period == 7200.0


def test_a_limit_has_no_burst_unless_one_is_given():
    assert parse_limits("5/second")[0].burst is None


# Invalid texts.

NO_LIMITS = {
    "nothing": "",
    "blank": "  ",
    "a number alone": "5",
    "a unit alone": "second",
    "no amount": "/second",
    "no unit": "5/",
    "a count alone": "5/10",
    "a negative amount": "-5/second",
    "a fraction": "5.5/second",
    "a fraction of a unit": "5/1.5h",
    "an exponent": "1e3/hour",
    "a thousands separator": "1_000/hour",
    "a wide digit": "\uff15/second",
    "another slash": "5//second",
    "another word": "5 every second",
    "per without a space before": "5per second",
    "per without a space after": "5 persecond",
    "burst without a number": "5/second burst",
    "burst without a space": "5/secondburst 2",
    "a negative burst": "5/second burst -2",
    "two bursts": "5/second burst 2 burst 3",
    "burst first": "burst 2 5/second",
    "more after it": "5/second please",
    "a unit of two words": "5/2h 30m",
}


@pytest.mark.parametrize("text", NO_LIMITS.values(), ids=NO_LIMITS)
def test_an_invalid_text_is_refused_with_an_example(text):
    assert complaint(text) == f"{text.strip()!r} is not a valid rate limit; {EXAMPLE}"


@pytest.mark.parametrize("text", ["5/second;", ";5/second", "5/second;;9/day", "5/second|"])
def test_an_empty_part_is_refused(text):
    assert complaint(text) == f"'' is not a valid rate limit; {EXAMPLE}"


def test_the_message_names_the_part_that_is_wrong():
    assert complaint("5/second; 9 a day") == f"'9 a day' is not a valid rate limit; {EXAMPLE}"


@pytest.mark.parametrize("text", [str(Concurrency(5)), "5 at once", "5 concurrent", "5 Parallel"])
def test_a_text_about_calls_in_flight_leads_to_the_class(text):
    hint = "to limit calls in flight, write Concurrency(5)"
    assert complaint(text) == f"{text!r} is not a rate; {hint}"


@pytest.mark.parametrize(
    "unit", ["mo", "month", "months", "y", "yr", "yrs", "year", "years", "MONTH"]
)
def test_a_unit_without_a_fixed_length_is_refused_with_the_reason(unit):
    assert complaint(f"5/{unit}") == (
        f"'5/{unit}': a {unit.lower()} has no fixed length, so no window can be exact; "
        f"give the limit in days or weeks"
    )


@pytest.mark.parametrize("text", ["5 per 2 months", "9/day; 5/year", "5/month burst 2"])
def test_no_form_of_a_month_or_a_year_gets_through(text):
    assert "has no fixed length" in complaint(text)


@pytest.mark.parametrize("unit", ["fortnight", "ms", "secondz", "x"])
def test_an_unknown_unit_is_named(unit):
    assert complaint(f"5/{unit}") == f"'5/{unit}': {unit!r} is not a unit of time; {EXAMPLE}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/second", "a limit's amount must be a"),
        ("5/0s", "a limit's period must be a"),
        ("5/second burst 0", "a limit's burst must be a"),
    ],
)
def test_a_zero_is_refused(text, message):
    assert complaint(text).startswith(message)


def test_a_burst_above_the_amount_is_refused():
    assert complaint("5/second burst 6") == (
        "a burst of 6 is more than the limit of 5 itself; leave it out, or make it smaller"
    )


@pytest.mark.parametrize(
    "text",
    ["9" * 5000 + "/second", "5/" + "9" * 400 + "s", "5/second burst " + "9" * 5000],
    ids=["amount", "count", "burst"],
)
def test_a_number_beyond_all_bounds_is_a_configuration_error(text):
    assert complaint(text)


# Limits made by hand.


@pytest.mark.parametrize(
    "value", [0, -1, float("nan"), float("inf"), True, "5", None, [5]], ids=repr
)
@pytest.mark.parametrize("field", ["amount", "period"])
def test_a_limit_of_what_is_no_number_above_0_is_refused(field, value):
    with pytest.raises(ConfigurationError, match=f"^a limit's {field} must be a "):
        Limit(**({"amount": 5, "period": 60} | {field: value}))


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "5", [5], 1.5], ids=repr)
def test_a_burst_that_is_no_whole_number_above_0_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"^a limit's burst must be a "):
        Limit(5, 60, burst=value)


def test_an_amount_that_is_no_whole_number_is_refused():
    with pytest.raises(ConfigurationError, match=r"^a limit's amount must be a "):
        Limit(2.5, 60)


def test_a_limit_made_by_hand_is_the_one_that_is_written():
    assert Limit(5, 60, burst=2) == parse_limits("5/minute burst 2")[0]


def test_limits_of_one_kind_are_one_in_a_set():
    assert len({Limit(5, 60), Limit(5, 60.0), *parse_limits("5/minute")}) == 1


# How it writes limits.


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("5 per sec", "5/second"),
        ("5/1s", "5/second"),
        ("5/60s", "5/minute"),
        ("5/90s", "5/90s"),
        ("5/120 mins", "5/2h"),
        ("5/24h", "5/day"),
        ("5/36h", "5/36h"),
        ("5/7d", "5/week"),
        ("5/14 days", "5/2w"),
        ("5/hr burst=2", "5/hour burst 2"),
        ("5/1234567s", "5/1234567s"),
    ],
)
def test_a_limit_is_written_in_its_largest_unit(text, written):
    assert str(parse_limits(text)[0]) == written


@st.composite
def written_limits(draw):
    """Return a text of the grammar and the limit that it names."""
    amount = draw(st.integers(1, 10**9))
    count = draw(st.one_of(st.none(), st.integers(1, 10**7)))
    unit, seconds = draw(st.sampled_from(SPELLINGS))
    burst = draw(st.one_of(st.none(), st.integers(1, amount)))
    gaps = st.sampled_from(["", " ", "  "])
    per = draw(st.sampled_from(["/", " per "]))
    counted = "" if count is None else f"{count}{draw(gaps)}"
    tail = "" if burst is None else f" burst {burst}"
    text = f"{draw(gaps)}{amount}{draw(gaps)}{per}{draw(gaps)}{counted}{unit}{tail}{draw(gaps)}"
    return text, Limit(amount, (count or 1) * seconds, burst)


@given(written_limits())
def test_whatever_is_written_well_is_read_as_it_is_meant(pair):
    text, limit = pair
    assert parse_limits(text) == (limit,)


@given(written_limits())
def test_what_a_limit_writes_is_read_as_an_equal_limit(pair):
    assert parse_limits(str(pair[1])) == (pair[1],)


@given(st.lists(written_limits(), min_size=2, max_size=4))
def test_joined_limits_are_read_one_by_one(pairs):
    assert parse_limits(";".join(text for text, _ in pairs)) == tuple(one for _, one in pairs)


def test_no_two_limits_are_written_alike():
    periods = [*range(1, 400), 3600, 86_400, 604_800, 1_234_567, 1_234_568, 10**9, 10**9 + 1]
    written = [str(Limit(5, period)) for period in periods]
    assert len(set(written)) == len(periods)


@pytest.mark.parametrize("period", [0.5, 1.5, 0.1, 1234567.5])
def test_fractions_of_a_second_are_different_in_writing(period):
    near = [str(Limit(5, period + step)) for step in (0, 1e-6)]
    assert len(set(near)) == 2


@given(st.text(alphabet="0123456789 /persmhdwbut;,|=.-", max_size=20))
def test_any_text_is_either_limits_or_a_configuration_error(text):
    try:
        limits = parse_limits(text)
    except ConfigurationError:
        return
    assert all(type(one) is Limit for one in limits)


def test_every_separator_counts_the_same():
    texts = [f"5/s{one}6/m{two}7/h" for one, two in itertools.product(";,|", repeat=2)]
    assert len({parse_limits(text) for text in texts}) == 1
