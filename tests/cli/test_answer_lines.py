"""An answer as columns for a terminal."""

from tfrs_negatives.cli.answer_lines import answer_lines


def test_titles_are_no_commands_to_the_terminal():
    """What text of any language holds is left; what moves the cursor is spelt out."""
    texts = {
        "Amélie 東京\u3000👨\u200d👩": None,
        "a\x1b[2J\x07b": "a\\x1b[2J\\x07b",
        "c\r\nd\x9b": "c\\r\\nd\\x9b",
        "e\u202ef\u2066g\u2028": "e\\u202ef\\u2066g\\u2028",
    }
    answer = {
        "ids": [text.encode() for text in texts],
        "title": [*list(texts)[:3], b"\xff\x1b"],
        "scores": [4.0, 3.0, 2.0, 1.0],
    }
    lines = answer_lines(answer, score="score (cosine)")
    assert lines[0].endswith("  score (cosine)")
    assert len(lines) == 5
    for text, line in zip(texts, lines[1:], strict=True):
        assert (texts[text] or text) in line
    assert lines[4].split()[2] == "\\xff\\x1b"
    assert not any(ord(one) < 32 or one == "\u202e" for one in "".join(lines))
