async def resume_delegates(lock, fetch):
    with lock:
        page = await fetch(1)
    return page
