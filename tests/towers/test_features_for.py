"""Columns become the features that their values suggest, or that are named."""

import numpy as np
import pandas as pd
import pytest

from tfrs_negatives.towers import features_for

COUNT = 60
FRAME = pd.DataFrame(
    {
        "title": [f"Film {i}" for i in range(COUNT)],
        "genres": ["Action|Drama", "Drama", None] * 20,
        "country": ["United Kingdom", "France"] * 30,
        "pages": range(COUNT),
        "rating": [1, 2, 3, None] * 15,
        "price": np.linspace(0, 1, COUNT),
        "released": pd.date_range("2020-01-01", periods=COUNT),
        "tags": [["a"], ["b", "c"], []] * 20,
        "nothing": [None] * COUNT,
        "a:b": [1, 2] * 30,
    }
)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("title", "Text(column='title')"),
        ("genres", "Categorical(column='genres', separator='|')"),
        ("country", "Categorical(column='country')"),
        ("pages", "Numeric(column='pages')"),
        ("rating", "Categorical(column='rating')"),
        ("price", "Numeric(column='price')"),
        ("released", "Date(column='released')"),
        ("tags", "Categorical(column='tags')"),
        ("nothing", "Categorical(column='nothing')"),
        ("a:b", "Categorical(column='a:b')"),
        ("title:category", "Categorical(column='title')"),
        ("genres:category", "Categorical(column='genres', separator='|')"),
        ("rating:number", "Numeric(column='rating')"),
        ("country:text", "Text(column='country')"),
        ("pages:date", "Date(column='pages')"),
    ],
)
def test_kinds(name, expected):
    (feature,) = features_for(FRAME, [name])
    assert repr(feature) == expected
    feature.adapt(FRAME[feature.column])  # It takes the column.


@pytest.mark.parametrize(
    "names, message",
    [
        (["price", "price"], "'price' twice"),
        (["price", "price:category"], "'price' twice"),
        (["price:words"], "received 'words' in 'price:words'"),
        (["year"], "column 'year'"),
    ],
)
def test_errors(names, message):
    with pytest.raises(ValueError, match=message):
        features_for(FRAME, names)
