def expressions(f, o, i, a, b, c):
    try:
        _v1 = f
        _v2 = a
        _at = 1
        _v3 = (yield 1)
        _v4 = [*b]
        _at = 2
        _v5 = (yield 2)
        x = _v1(_v2, _v3, *_v4, k=_v5, **c)
        _v1 = _v2 = _v3 = _v4 = _v5 = None
        _v1 = o
        _v2 = i
        _at = 3
        _v3 = (yield 3)
        _v4 = slice(_v2, _v3, None)
        _v5 = _v1[_v4]
        _at = 4
        _v6 = (yield 4)
        _v5 += _v6
        _v1[_v4] = _v5
        _v1 = _v2 = _v3 = _v4 = _v5 = _v6 = None
        _v2 = a
        _at = 5
        _v3 = (yield 5)
        _v1 = _v2 < _v3
        if _v1:
            _v1 = _v3 < b
        y = _v1
        _v1 = _v2 = _v3 = None
        _v2 = a
        if _v2:
            _at = 6
            _v3 = (yield 6)
            _v2 = _v3
        _v1 = _v2
        if not _v1:
            _v1 = b
        z = _v1
        _v1 = _v2 = _v3 = None
        _at = 7
        _v1 = (yield 8)
        if _v1:
            _at = 8
            _v3 = (yield 7)
            _v2 = _v3
        else:
            _at = 9
            _v4 = (yield 9)
            _v5 = n = _v4
            _v2 = _v5
        w = _v2
        _v1 = _v2 = _v3 = _v4 = _v5 = None
        _v1 = repr(a)
        _at = 10
        _v2 = (yield 10)
        t = f'{_v1:>{_v2}}{b}'
        _v1 = _v2 = None
        _v1 = a
        _at = 11
        _v2 = (yield 11)
        d = {_v1: _v2, **b, c: 1}
        _v1 = _v2 = None
        _at = 12
        _v1 = (yield 13)
        _v2, _v3 = _v1
        o.a = _v2
        _v4, *_v5 = _v3
        o.b = _v4
        _v6 = o
        _at = 13
        _v7 = (yield 12)
        _v6[_v7] = _v5
        _v1 = _v2 = _v3 = _v4 = _v5 = _v6 = _v7 = None
        _v1 = o
        _at = 14
        _v2 = (yield 14)
        del _v1[_v2]
        _v1 = _v2 = None
        _v1 = f
        _at = 15
        _v2 = (yield 15)
        _v3 = _v1(_v2)
        _at = 16
        _v4 = (yield 16)
        raise _v3 from _v4
    except BaseException:
        _v7 = _v6 = _v5 = _v4 = _v3 = _v2 = _v1 = None
        raise
