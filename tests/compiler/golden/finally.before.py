def final(items):
    for item in items:
        try:
            if item:
                return item
            break
        finally:
            yield "cleaning up"
