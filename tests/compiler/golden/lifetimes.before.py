def lifetimes(source):
    try:
        for item in source():
            yield item
    except KeyError:
        print("source() is closed by now")
