"""How far two lists of phones are from each other."""


def distance(one, other):
    """Insertions, deletions and replacements that make `other` of `one`."""
    row = list(range(len(other) + 1))
    for index, left in enumerate(one, 1):
        before, row[0] = row[:], index
        for column, right in enumerate(other, 1):
            row[column] = min(before[column - 1] + (left != right), before[column] + 1, row[column - 1] + 1)
    return row[-1]


def bare(phones):
    """Without stress."""
    return [phone.rstrip("012") for phone in phones]
