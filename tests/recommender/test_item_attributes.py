"""Features of items as attributes."""

import types

import numpy as np
import pytest

from tfrs_negatives import towers
from tfrs_negatives.recommender.item_attributes import item_attributes

TABLE = {
    "item": ["a", "b", "c"],
    "genres": ["Action|Drama", "Drama", None],
    "colours": [["red", "blue"], ["red"], None],
    "shop name": ["x", None, "y"],
    "year": [1995, 2001, 2001],
    "price": [1.5, float("nan"), float("inf")],
    "released": np.array(["1970-01-02", "NaT", "1970-01-01"], "datetime64[s]"),
    "description": ["a text", "of words", "of few"],
    "in": ["p", "q", "p"],
    "2nd": ["p", "q", "p"],
    "title": ["T", "U", "V"],
}
FEATURES = [
    towers.Id("item"),
    towers.Categorical("genres", separator="|"),
    towers.Categorical("colours"),
    towers.Categorical("shop name"),
    towers.Categorical("year"),
    towers.Numeric("price"),
    towers.Date("released"),
    towers.Text("description"),
    towers.Categorical("in"),
    towers.Categorical("2nd"),
    towers.Categorical("title"),
]


@pytest.fixture
def of_items():
    item = types.SimpleNamespace(features=FEATURES)
    return types.SimpleNamespace(item=item, item_table=TABLE)


def test_attributes_of_all_kinds(of_items):
    attributes, kinds = item_attributes(of_items, ["title"])
    assert kinds == {
        "genres": "set",
        "colours": "set",
        "shop_name": "category",
        "year": "number",
        "price": "number",
        "released": "date",
        "in_": "category",
        "_2nd": "category",
        "title_": "category",
    }
    for name in ("price", "released"):
        attributes[name] = [None if np.isnan(v) else v for v in attributes[name]]
    assert attributes == {
        "genres": [["Action", "Drama"], ["Drama"], []],
        "colours": [["red", "blue"], ["red"], []],
        "shop_name": ["x", None, "y"],
        "year": [1995.0, 2001.0, 2001.0],
        "price": [1.5, None, None],
        "released": [86_400.0, None, 0.0],
        "in_": ["p", "q", "p"],
        "_2nd": ["p", "q", "p"],
        "title_": ["T", "U", "V"],
    }


def test_a_live_index_takes_them(of_items, tmp_path):
    from tfrs_negatives.index import LiveIndex

    attributes, kinds = item_attributes(of_items)
    with LiveIndex.create(
        tmp_path / "index", TABLE["item"], np.eye(3), None, attributes, kinds=kinds
    ) as index:
        where = 'year >= 2001 and ("Drama" in genres or price is missing)'
        found = index.search(np.ones([1, 3]), where=where).ids[0].tolist()
        assert sorted(found) == ["b", "c"]
