import tensorflow as tf

from tfrs_negatives.samplers import Mined, Mixture, Popularity, Uniform

CORPUS = tf.range(5)
TABLE = [[1, 2], [3]]


def test_samplers_say_how_large_their_corpus_is():
    assert repr(Uniform(CORPUS)) == "Uniform(num_items=5)"
    counts = [1, 2, 3, 4, 5]
    assert repr(Popularity(CORPUS, counts)) == "Popularity(num_items=5)"
    assert repr(Popularity(CORPUS, counts, 0.5)) == "Popularity(num_items=5, power=0.5)"


def test_mined_says_what_it_draws_from_now():
    sampler = Mined(CORPUS, TABLE, "user", range_max=2)
    expected = "Mined(num_items=5, num_rows=2, row_feature='user'{})"
    assert repr(sampler) == expected.format(", range_max=2")
    sampler.range_min.assign(1)
    assert repr(sampler) == expected.format(", range_min=1, range_max=2")
    assert repr(Mined(CORPUS, TABLE, "user")) == expected.format("")


def test_a_mixture_says_its_present_weights():
    samplers = [Uniform(CORPUS), Popularity(CORPUS, [1, 2, 3, 4, 5])]
    mixture = Mixture(samplers, [0.25, 0.75])
    parts = "[Uniform(num_items=5), Popularity(num_items=5)]"
    assert repr(mixture) == f"Mixture(samplers={parts}, weights=[0.25, 0.75])"
    mixture.weights.assign([1, 0])
    assert repr(mixture) == f"Mixture(samplers={parts}, weights=[1, 0])"
    assert repr(mixture.log_q) == (
        "MixtureLogQ(sources=[-1.60944, PopularityLogQ(num_ids=5)], weights=[1, 0])"
    )


def test_in_a_graph_too():
    sampler = Mixture([Mined(CORPUS, TABLE, "user")], [1])
    texts = []
    tf.function(lambda: texts.append(repr(sampler)))()
    assert texts[0].startswith("Mixture(samplers=[Mined(num_items=5, num_rows=2, ")
