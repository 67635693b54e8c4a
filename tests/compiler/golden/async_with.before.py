async def async_with(lock):
    async with lock as held:
        await held
