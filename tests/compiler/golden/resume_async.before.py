async def resume_async(pool, names):
    async with pool as connection:
        async for name in names:
            if not await connection.ask(name):
                continue
