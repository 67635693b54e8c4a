def resume_loop(n, total, i, got, _to, _delegate, _cells, _it1):

    # unpickled: the frame comes as a list, filled after this object was made
    if _to.__class__ is list:
        n, total, i, got, _to, _delegate, _cells, _it1 = _to

    # a negative number: some variables have no value
    if _to < 0:
        _to = -_to
        if n is UNBOUND:
            del n
        if total is UNBOUND:
            del total
        if i is UNBOUND:
            del i
        if got is UNBOUND:
            del got
    try:
        if not _to:
            total = 0
            _it1 = loop_iter(range(n))
        _at = 1  # yield point 1: line 5
        for _chunk1 in ((None,), _it1) if _to else (_it1,):
            for _item1 in _chunk1:
                if _to:
                    _at = 1  # yield point 1: line 5
                    _to = False  # arrived
                    got = (yield)
                else:
                    i = _item1
                    total += i
                    got = (yield total)
                print(got)
            else:
                continue
            break
        _chunk1 = _item1 = None
        _it1 = None
        return total
    except BaseException:
        _item1 = _chunk1 = None
        _it1 = None
        raise
