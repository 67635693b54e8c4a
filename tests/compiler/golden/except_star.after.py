def except_star():
    _exc1 = _exc2 = _exc3 = None
    try:
        try:
            try:
                raise ExceptionGroup('g', [ValueError(), KeyError()])
            except BaseException as _exc6:
                _exc1 = _exc6
                raise
        except* ValueError as values:
            try:
                yield values
            except BaseException as _exc4:
                _exc2 = _exc4
                raise
        except* KeyError:
            try:
                yield 'keys'
            except BaseException as _exc5:
                _exc3 = _exc5
                raise
    finally:
        _exc1 = _exc2 = _exc3 = None
