def managers(a, b):
    with a as x, b():
        yield x
    with a:
        print("cannot suspend: left as it is")
