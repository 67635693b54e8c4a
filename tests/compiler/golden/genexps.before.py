def genexps(rows, k):
    lazy = (x + k for row in rows if row for x in row)
    yield next(lazy)
    return sum(y for y in lazy)
