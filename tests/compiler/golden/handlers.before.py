def handlers(log):
    try:
        yield "body"
    except (ValueError, KeyError) as error:
        yield error
    except OSError:
        log("cannot suspend: left as it is")
    else:
        yield "else"
