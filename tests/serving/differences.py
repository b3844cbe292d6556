"""Which tests are of which rows of the table of what stays different."""

#: From the first cell of a row to the test's name.
TESTS = {}


def row(text):
    """A decorator of a row's test."""

    def note(test):
        TESTS[text] = test.__name__
        return test

    return note
