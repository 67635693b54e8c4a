async def async_for(source):
    async for first, second in source:
        await first
    else:
        await second
