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
        for _it1 in (_it1,):
            _at = 1  # yield point 1: line 5
            _to = False  # arrived
            got = (yield)
            print(got)
        else:
            for i in _it1:
                total += i
                got = (yield total)
                print(got)
        _it1 = None
        return total
    except BaseException:
        _it1 = None
        raise
