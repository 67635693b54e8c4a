def resume_handler(log):
    try:
        yield "body"
    except ValueError as error:
        yield error
        raise
    finally:
        log((yield "finally"))
