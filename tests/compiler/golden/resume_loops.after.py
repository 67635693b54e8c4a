def resume_loops(rows, log, row, cell, _to, _delegate, _cells, _it1, _it2):

    # unpickled: the frame comes as a list, filled after this object was made
    if _to.__class__ is list:
        rows, log, row, cell, _to, _delegate, _cells, _it1, _it2 = _to

    # a negative number: some variables have no value
    if _to < 0:
        _to = -_to
        if rows is UNBOUND:
            del rows
        if log is UNBOUND:
            del log
        if row is UNBOUND:
            del row
        if cell is UNBOUND:
            del cell
    try:
        if _to <= 1:
            for _it1 in (_it1,):
                for _it2 in (_it2,):
                    _at = 1  # yield point 1: line 5
                    _to = False  # arrived
                    _v1 = (yield)
                    if not _v1:
                        _v1 = None
                        break
                    else:
                        _v1 = None
                else:
                    for cell in _it2:
                        _v1 = (yield cell)
                        if not _v1:
                            _v1 = None
                            break
                        else:
                            _v1 = None
                    else:
                        _it2 = None
                        continue
                _it2 = None
                log(row)
            else:
                for row in _it1:
                    _it2 = loop_iter(row)
                    for cell in _it2:
                        _v1 = (yield cell)
                        if not _v1:
                            _v1 = None
                            break
                        else:
                            _v1 = None
                    else:
                        _it2 = None
                        continue
                    _it2 = None
                    log(row)
        if not _to:
            _it1 = None
        _at = 2  # yield point 2: line 11
        for _to in (_to,) if _to else ():
            _at = 2  # yield point 2: line 11
            _to = False  # arrived
            yield
        else:
            while log('more'):
                yield row
    except BaseException:
        _v1 = _it2 = _it1 = None
        raise
