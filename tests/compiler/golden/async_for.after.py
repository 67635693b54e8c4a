async def async_for(source):
    _it1 = async_iter(source)
    _done1 = False
    while True:
        try:
            _item1 = await next_of(_it1)
        except StopAsyncIteration:
            _done1 = True
            break
        first, second = _item1
        _item1 = None
        await first
    _it1 = None
    if _done1:
        await second
