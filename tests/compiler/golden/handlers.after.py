def handlers(log):
    try:
        yield 'body'
    except (ValueError, KeyError) as _exc1:
        error = _exc1
        try:
            yield error
        finally:
            error = None
            del error
    except OSError:
        log('cannot suspend: left as it is')
    else:
        yield 'else'
