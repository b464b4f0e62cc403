"""Descriptions of parameters and fields in docstrings."""

from __future__ import annotations

import attrs
import pytest

from arbprov.payload.docstrings import read_descriptions, read_summary


def google(city, days):
    """Forecast for a city.

    It may be wrong.

    Args:
        city (str): The city's name,
            in English.

        **days: How many days.

    Returns:
        city: not a parameter
    """


def numpy(city, days):
    """Forecast for a city.

    Parameters
    ----------
    city : str
        The city's name,
        in English.
    **days
        How many days.

    Returns
    -------
    city : str
        Not a parameter.
    """


def sphinx(city, days):
    """Forecast for a city.

    :param city: The city's name,
        in English.
    :param int days: How many days.
    :returns: city
    """


@pytest.mark.parametrize("documented", [google, numpy, sphinx])
def test_parameters_in_each_style(documented):
    assert read_descriptions(documented) == {
        "city": "The city's name, in English.",
        "days": "How many days.",
    }


def test_a_docstring_without_a_section_describes_no_parameter():
    def forecast(city):
        """Forecast: for a city.

        Note: it may be wrong.
        """

    assert read_descriptions(forecast) == {}
    assert read_descriptions(lambda: None) == {}


def test_text_in_a_section_that_is_not_an_item_ends_it():
    def forecast(city):
        """Forecast.

        Args:
            these are the arguments
            city: The city.
        """

    assert read_descriptions(forecast) == {}


def test_the_summary_is_the_first_paragraph_in_one_line():
    class Place:
        """A place
        to visit.

        More.
        """

    assert read_summary(Place) == "A place to visit."


def test_the_docstring_that_python_writes_for_a_class_is_no_summary():
    generated = attrs.make_class("Place", ["x"])
    generated.__doc__ = "Place(x)"
    assert [read_summary(each) for each in (generated, attrs.make_class("Other", []))] == ["", ""]
