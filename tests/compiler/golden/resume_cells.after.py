def resume_cells(_v0, add, _to, _delegate, _cells):

    # unpickled: the frame comes as a list, filled after this object was made
    if _to.__class__ is list:
        add, _to, _delegate, _cells = _to
    if False:
        lambda: (count,)
    count = _cells[0]  # the cell itself, not its contents

    # a negative number: some variables have no value
    if _to < 0:
        _to = -_to
        if add is UNBOUND:
            del add
    try:
        for _to in (_to,):
            _at = 1  # yield point 1: line 3
            _to = False  # arrived
            _v1 = (yield)
            _v2 = count = _v1
            if not _v2:
                _v1 = _v2 = None
                break
            else:
                _v1 = _v2 = None
            pass
        else:
            while True:
                _v1 = (yield add(1))
                _v2 = count = _v1
                if not _v2:
                    _v1 = _v2 = None
                    break
                else:
                    _v1 = _v2 = None
                pass
    except BaseException:
        _v2 = _v1 = None
        raise
