def managers(a, b):
    _mgr2 = manager(a)
    with _mgr2 as x:
        _mgr1 = manager(b())
        with _mgr1:
            yield x
        _mgr1 = None
    _mgr2 = None
    with a:
        print('cannot suspend: left as it is')
