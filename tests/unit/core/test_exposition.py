"""Prometheus' text format, byte for byte."""

from __future__ import annotations

from apps.core.exposition import counter, gauge, histogram, labelled, render


def test_the_examples_of_the_spec_come_out():
    """topics v0 §20."""
    series = labelled("topics_topic_head_seq", "Newest seq.", "topic", {"greenhouse.temps": 93})
    assert render([series, gauge("a", "A.", 0.5), counter("b_ms", "B.", 7)]) == (
        b"# HELP topics_topic_head_seq Newest seq.\n"
        b"# TYPE topics_topic_head_seq gauge\n"
        b'topics_topic_head_seq{topic="greenhouse.temps"} 93\n'
        b"# HELP a A.\n# TYPE a gauge\na 0.5\n"
        b"# HELP b_ms B.\n# TYPE b_ms counter\nb_ms 7\n"
    )


def test_labels_are_escaped():
    text = render([labelled("a", "A.", "topic", {'x"\\\n': 1})])
    assert text.endswith(b'a{topic="x\\"\\\\\\n"} 1\n')


def test_a_histogram_adds_up():
    series = histogram("t_us", "T.", bounds=(50, 100), buckets=(1, 0, 2), total=999)
    assert render([series]).decode().splitlines()[2:] == [
        't_us_bucket{le="50"} 1',
        't_us_bucket{le="100"} 1',
        't_us_bucket{le="+Inf"} 3',
        "t_us_sum 999",
        "t_us_count 3",
    ]
