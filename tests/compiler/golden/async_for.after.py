async def async_for(source):
    _it1 = async_iter(source)
    async for first, second in async_steps(_it1):
        await first
    else:
        _it1 = None
        await second
    _it1 = None
