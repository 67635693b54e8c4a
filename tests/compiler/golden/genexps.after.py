def genexps(rows, k):
    _cells = closure(lambda: (k,))

    def _fn1(iterable):
        _cells = closure(lambda: (k,))
        try:
            _it1 = loop_iter(iterable)
            _at = 1
            for row in _it1:
                if row:
                    _it2 = loop_iter(row)
                    for x in _it2:
                        yield (x + k)
                    _it2 = None
            _it1 = None
        except BaseException:
            _it2 = _it1 = None
            raise
    lazy = _fn1(loop_iter(rows))
    _at = 1
    yield next(lazy)

    def _fn2(iterable):
        try:
            _it1 = loop_iter(iterable)
            _at = 1
            for y in _it1:
                yield y
            _it1 = None
        except BaseException:
            _it1 = None
            raise
    return sum(_fn2(loop_iter(lazy)))
