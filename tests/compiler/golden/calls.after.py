def calls(fetch, urls, log):
    try:
        _v1 = []
        _it1 = loop_iter(urls)
        _at = 1
        for _item1 in _it1:
            if _item1:
                _v2 = fetch
                if (_v4 := suspending(_v2)) is None:
                    _item2 = _v2(_item1)
                else:
                    _item2 = (yield from _v4(_item1))
                _v2 = _v4 = None
                _v1.append(_item2)
        _it1 = None
        _item1 = _item2 = None
        pages = _v1
        _v1 = None
        _v1 = log
        _v2 = len(pages)
        _v3 = fetch
        if (_v5 := suspending(_v3)) is None:
            _v4 = _v3(urls[0])
        else:
            _at = 2
            _v4 = (yield from _v5(urls[0]))
        if (_v7 := suspending(_v1)) is None:
            _v1(_v2, _v4)
        else:
            _at = 3
            yield from _v7(_v2, _v4)
        _v1 = _v2 = _v3 = _v4 = _v5 = _v7 = None
        _v1 = fetch
        if (_v3 := suspending(_v1)) is None:
            _v2 = _v1(pages)
        else:
            _at = 4
            _v2 = (yield from _v3(pages))
        return _v2
    except BaseException:
        _v4 = _v3 = _item2 = _v2 = _item1 = _it1 = _v1 = None
        raise
