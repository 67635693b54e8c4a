def resume_handler(log, error, _to, _delegate, _cells, _exc1, _out1, _v1):

    # unpickled: the frame comes as a list, filled after this object was made
    if _to.__class__ is list:
        log, error, _to, _delegate, _cells, _exc1, _out1, _v1 = _to

    # a negative number: some variables have no value
    if _to < 0:
        _to = -_to
        if log is UNBOUND:
            del log
        if error is UNBOUND:
            del error
    try:
        try:
            if _to >= 3:
                _saved1 = None
                if _out1:
                    if _out1[0] == 'raise':
                        _saved1 = back(_out1[1])
                        raise _out1[1]
            else:
                try:
                    try:
                        if _to == 2:
                            _saved2 = back(_exc1)
                            raise _exc1
                        _at = 1  # yield point 1: line 3
                        _to = False  # arrived
                        yield
                    except BaseException if _to == 2 else () if _to else ValueError as _exc1:
                        if _to:
                            forward(_saved2)
                            _saved2 = None
                        if not _to:
                            error = _exc1
                        try:
                            if _to:
                                _at = 2  # yield point 2: line 5
                                _to = False  # arrived
                                yield
                            else:
                                _at = 2  # yield point 2: line 5
                                yield error
                            raise
                        finally:
                            error = None
                            del error
                except BaseException as _exc2:
                    _out1 = ('raise', _exc2)
                    raise
                _out1 = None
        finally:
            if _to:
                forward(_saved1)
                _saved1 = None
            try:
                if _to:
                    _at = 3  # yield point 3: line 8
                    _to = False  # arrived
                    _v2 = (yield)
                else:
                    _v1 = log
                    _at = 3  # yield point 3: line 8
                    _v2 = (yield 'finally')
                _v1(_v2)
                _v1 = _v2 = None
            finally:
                _v2 = _v1 = None
                _out1 = None
    except BaseException:
        _v2 = _v1 = None
        raise
