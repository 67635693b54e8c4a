async def resume_delegates(lock, fetch, page, _to, _delegate, _cells, _mgr1):

    # unpickled: the frame comes as a list, filled after this object was made
    if _to.__class__ is list:
        lock, fetch, page, _to, _delegate, _cells, _mgr1 = _to

    # a negative number: some variables have no value
    if _to < 0:
        _to = -_to
        if lock is UNBOUND:
            del lock
        if fetch is UNBOUND:
            del fetch
        if page is UNBOUND:
            del page
    try:
        with resumed(_mgr1):
            _at = 1  # yield point 1: line 3
            _to = False  # arrived
            page = await (_delegate.pop() if _delegate else ready(replaced(fetch)(1)))
        _mgr1 = None
        return page
    except BaseException:
        _mgr1 = None
        raise
