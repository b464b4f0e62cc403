"""The two libraries that read and write JSON: they give the same results."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbprov.payload import json as codec
from arbprov.payload.json import OrjsonBackend, StandardBackend, fastest_backend
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure

STANDARD = StandardBackend()


@pytest.fixture(scope="module", name="orjson")
def _orjson():
    return OrjsonBackend()


def read(backend, raw: bytes) -> str:
    """Return the data in a document, with its types, or why it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_backend", backend)
        try:
            return repr(codec.parse_object(raw))
        except ValidationFailure as failure:
            return f"refused: {failure}"


# The choice.


@pytest.mark.fast
def test_orjson_is_used_where_it_is_installed():
    assert isinstance(fastest_backend(), OrjsonBackend)


def test_the_standard_library_is_used_where_orjson_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert isinstance(fastest_backend(), StandardBackend)


@pytest.mark.fast
@pytest.mark.parametrize(
    "text", ['{"a":[1,2.5,"ž",null]}', '{"a":-9223372036854775808}'[:-3] + "7}"]
)
def test_orjson_does_all_that_both_do_alike(monkeypatch, text):
    backend = OrjsonBackend()
    monkeypatch.setattr(backend, "_standard", None)
    assert backend.dumps(backend.loads(text.encode())) == text


# Reading.

TEXTS = [
    *(
        b"",
        b" ",
        b"{}",
        b"\t{}\r\n",
        b"\x0b{}",
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"\x00",
        b"{}\x00",
        b"\xff{}",
    ),
    b'{"a":1,"b":2,"a":3}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"\\ud800":1}',
    b'{"a":"1234567890123456789012"}',
]
VALUES = [
    *(
        "",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "--1",
        "1e",
        "0x1",
        "tru",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
    ),
    *(
        "-0",
        "-0.0",
        "0.1",
        "1.0",
        "1e5",
        "1E+5",
        "1e16",
        "-1e-400",
        "5e-324",
        "2.2250738585072011e-308",
    ),
    *("1e308", "1e309", "-1e400", "0e999", "0e99999999999999999999", "9007199254740993.0"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *(
        "18446744073709551615",
        "18446744073709551616",
        "-18446744073709551616",
        "9" * 19,
        "-" + "9" * 19,
    ),
    *(
        "9" * 4300,
        "-" + "9" * 4300,
        "9" * 4301,
        "9" * 400 + ".5",
        "0." + "9" * 400,
        "9" * 20 + "e-5",
    ),
    *(r'"\ud800"', r'"\udc00"', r'"\ud83d\ude00"', r'"\ud83dx"', r'"\ud800\u0061"', r'"\u00e9"'),
    *(
        r'"\u0000"',
        r'"\/\b\f"',
        r'"\x"',
        r'"\u12"',
        '"\x01"',
        '"\x7f"',
        '"\n"',
        '"',
        '"\u2028"',
        "'a'",
    ),
    *("[1,]", "[,1]", '{"a":}', '{"a":1,}', "{1:2}", "[1 2]", "]", "// no", "[" * 98 + "]" * 98),
    *("[" * levels + "]" * levels for levels in (99, 100, 1023, 1024, 5000)),
    *("[" * 1030, "[" * 100 + "9" * 30 + "]" * 100, "[" * 100 + "9" * 5000 + "]" * 100),
]


@pytest.mark.fast
@pytest.mark.parametrize(
    "raw",
    [*TEXTS, *(b'{"a":' + value.encode() + b"}" for value in VALUES)],
    ids=lambda raw: repr(raw[:40]),
)
def test_both_read_a_document_alike(orjson, raw):
    assert read(orjson, raw) == read(STANDARD, raw)


DIGITS = st.text("0123456789", min_size=1, max_size=25) | st.sampled_from(
    ["9" * 18, "9" * 19, "9" * 20, "18446744073709551616", "9" * 400, "9" * 4301]
)
PIECES = (
    st.sampled_from(
        [
            *("{", "}", "[", "]", ":", ",", '"', "\\", "-", "+", ".", "e", "E-", " ", "\n", "\x00"),
            *("true", "null", "NaN", "Infinity", "-0", "1e309", '"a":', r"\ud800", r"\udc00"),
            *(r"\ud83d\ude00", r"\u0061", "\ufeff", "\u2028", "[" * 101, "]" * 101, "[" * 1025),
        ]
    )
    | DIGITS
    | st.text(max_size=3)
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**66), 2**66)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
DOCUMENTS = st.builds(
    json.dumps, JSON, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 1])
)


@st.composite
def damaged(draw) -> str:
    """Draw a document with pieces of other documents inserted anywhere."""
    text = draw(DOCUMENTS)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(PIECES) + text[start + draw(st.integers(0, 3)) :]
    return text


BYTES = (damaged() | st.lists(PIECES).map("".join)).map(
    lambda text: text.encode(errors="surrogatepass")
) | st.binary()


@pytest.mark.fast
@given(BYTES | BYTES.map(lambda raw: b'{"a":' + raw + b"}"))
def test_both_read_any_bytes_alike(orjson, raw):
    assert read(orjson, raw) == read(STANDARD, raw)


@pytest.mark.fast
@given(DIGITS, DIGITS, DIGITS, st.sampled_from(["%s", "-%s", "%s.%s", "%se%s", "-%s.%se-%s"]))
def test_both_read_any_number_alike(orjson, whole, part, exponent, form):
    number = form % (whole, part, exponent)[: form.count("%")]
    raw = f'{{"a":[{number}]}}'.encode()
    assert read(orjson, raw) == read(STANDARD, raw)


# Writing.


@pytest.mark.fast
@given(JSON)
def test_both_write_any_data_so_that_it_is_read_alike(orjson, data):
    data = to_builtins(data)
    assert [repr(json.loads(one.dumps(data))) for one in (orjson, STANDARD)] == [repr(data)] * 2


@pytest.mark.fast
@given(JSON)
def test_both_write_data_without_fractions_alike(orjson, data):
    data = json.loads(json.dumps(to_builtins(data)), parse_float=str)
    assert orjson.dumps(data) == STANDARD.dumps(data)


@pytest.mark.fast
@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**4000])
def test_orjson_s_backend_writes_an_integer_of_any_size(orjson, number):
    assert orjson.dumps([number]) == f"[{number}]"


@pytest.mark.fast
def test_the_standard_library_writes_text_that_is_not_unicode(orjson):
    assert orjson.dumps(["\ud800"]) == STANDARD.dumps(["\ud800"])
