"""Reads text fields of an encoded message of Protobuf without decoding the rest.

A hub checks the token of a message, which may be large, before it decodes the message.
"""

from __future__ import annotations

__all__ = ["find_text_fields"]

# Protobuf's wire types.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def find_text_fields(message: bytes, fields: dict[str, int]) -> dict[str, str]:
    r"""Return text fields of an encoded message.

    A field that occurs again replaces the earlier field, as in Protobuf, whose documentation
    describes the encoding.

    Args:
        message: The message.
        fields: The numbers of the fields, by names that the caller chooses.

    Raises:
        ValueError: The message is not in Protobuf's format.

    >>> find_text_fields(b"\x0a\x02hi\x10\x05", {"greeting": 1, "name": 3})
    {'greeting': 'hi', 'name': ''}
    """
    found = dict.fromkeys(fields, "")
    names = {number: name for name, number in fields.items()}
    position = 0
    try:
        while position < len(message):
            tag, position = _read_varint(message, position)
            kind = tag & 7
            if kind == _VARINT:
                _, position = _read_varint(message, position)
                continue
            if kind == _BYTES:
                size, position = _read_varint(message, position)
            else:
                size = _FIXED_SIZES[kind]
            end = position + size
            if kind == _BYTES and (name := names.get(tag >> 3)) is not None:
                found[name] = message[position:end].decode()
            position = end
    except (IndexError, KeyError, ValueError):
        position = -1
    if position != len(message):
        raise ValueError("the message is not in Protobuf's format")
    return found


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
