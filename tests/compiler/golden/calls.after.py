def calls(fetch, urls, log):
    try:
        _v1 = []
        _it1 = loop_iter(urls)
        for _item1 in _it1:
            if _item1:
                _v2 = fetch
                _v3 = suspending(_v2)
                if _v3 is None:
                    _item2 = _v2(_item1)
                else:
                    _at = 1
                    _item2 = (yield from _v3(_item1))
                _v2 = _v3 = None
                _v1.append(_item2)
        _it1 = None
        _item1 = _item2 = None
        pages = _v1
        _v1 = None
        _v1 = log
        _v2 = len(pages)
        _v3 = fetch
        _v4 = suspending(_v3)
        if _v4 is None:
            _v5 = _v3(urls[0])
        else:
            _at = 2
            _v5 = (yield from _v4(urls[0]))
        _v6 = suspending(_v1)
        if _v6 is None:
            _v1(_v2, _v5)
        else:
            _at = 3
            yield from _v6(_v2, _v5)
        _v1 = _v2 = _v3 = _v4 = _v5 = _v6 = None
        _v1 = fetch
        _v2 = suspending(_v1)
        if _v2 is None:
            _v3 = _v1(pages)
        else:
            _at = 4
            _v3 = (yield from _v2(pages))
        return _v3
    except BaseException:
        _item2 = _item1 = _it1 = None
        raise
