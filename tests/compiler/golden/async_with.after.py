async def async_with(lock):
    _mgr1 = manager(lock)
    async with async_manager(_mgr1) as held:
        try:
            await held
            _left1 = None
        except BaseException as _exc1:
            _left1 = ('raise', _exc1)
            raise
    _mgr1 = _left1 = None
