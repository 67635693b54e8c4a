def final(items):
    for item in items:
        try:
            try:
                if item:
                    _out1 = ('return', item)
                    return _out1[1]
                _out1 = ('break',)
                break
            except BaseException as _exc1:
                _out1 = ('raise', _exc1)
                raise
            _out1 = None
        finally:
            try:
                yield 'cleaning up'
            finally:
                _out1 = None
