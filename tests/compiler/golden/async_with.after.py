async def async_with(lock):
    _mgr1 = manager(lock)
    _item1 = await enter_async(_mgr1)
    _done1 = False
    try:
        try:
            held = _item1
            _item1 = None
            await held
        except BaseException as _exc1:
            _done1 = True
            if not await leave_async(_mgr1, _exc1):
                raise
    finally:
        if not _done1:
            await leave_async(_mgr1, None)
    _mgr1 = None
