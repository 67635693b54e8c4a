def lifetimes(source):
    try:
        try:
            _it1 = loop_iter(source())
            _at = 1
            for item in _it1:
                yield item
            _it1 = None
        except KeyError:
            _it1 = None
            print('source() is closed by now')
    except BaseException:
        _it1 = None
        raise
