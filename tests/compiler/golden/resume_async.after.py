async def resume_async(pool, names, connection, name, _to, _delegate, _cells, _mgr1, _it1, _left1):

    # unpickled: the frame comes as a list, filled after this object was made
    if _to.__class__ is list:
        pool, names, connection, name, _to, _delegate, _cells, _mgr1, _it1, _left1 = _to

    # a negative number: some variables have no value
    if _to < 0:
        _to = -_to
        if pool is UNBOUND:
            del pool
        if names is UNBOUND:
            del names
        if connection is UNBOUND:
            del connection
        if name is UNBOUND:
            del name
    try:
        _mgr2 = async_resumed(_mgr1, _delegate, _to == 1)
        _at = 1  # yield point 1: line 2
        if _to == 1:
            _to = False  # arrived
        async with _mgr2 as _item1:
            _mgr2 = None
            if not _to:
                connection = _item1
                _item1 = None
            try:
                if _to == 4:
                    _saved1 = None
                    if _left1:
                        if _left1[0] == 'raise':
                            _saved1 = back(_left1[1])
                            raise _left1[1]
                else:
                    if not _to:
                        _it1 = async_iter(names)
                    for _it1 in (_it1,) if _to else ():
                        if _to == 2:
                            try:
                                _at = 2  # yield point 2: line 3
                                _to = False  # arrived
                                _item2 = await (_delegate.pop() if _delegate else next_of(_it1))
                            except StopAsyncIteration:
                                _it1 = no_items
                                continue
                            name = _item2
                            _item2 = None
                        if _to:
                            _at = 3  # yield point 3: line 4
                            _to = False  # arrived
                            _v1 = await (_delegate.pop() if _delegate else ready(replaced(connection.ask)(name)))
                        else:
                            _at = 3  # yield point 3: line 4
                            _v1 = await ready(replaced(connection.ask)(name))
                        if not _v1:
                            _v1 = None
                            continue
                        else:
                            _v1 = None
                    else:
                        _at = 2  # yield point 2: line 3
                        async for name in async_steps(_it1):
                            _at = 3  # yield point 3: line 4
                            _v1 = await ready(replaced(connection.ask)(name))
                            if not _v1:
                                _v1 = None
                                _at = 2  # yield point 2: line 3
                                continue
                            else:
                                _v1 = None
                            _at = 2  # yield point 2: line 3
                    _it1 = None
                    _left1 = None
            except BaseException as _exc1:
                _v1 = _it1 = None
                _left1 = ('raise', _exc1)
                raise
            finally:
                if _to:
                    forward(_saved1)
                    _saved1 = None
                _at = 4  # yield point 4: line 2
                _to = False  # arrived
        _mgr1 = _left1 = None
    except BaseException:
        _v1 = _it1 = _mgr1 = _left1 = None
        raise
