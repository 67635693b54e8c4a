def loops(rows):
    for row in rows:
        for cell in row:
            if (yield cell) is None:
                break
        else:
            yield "end of row"
    for a, b.c in pairs():
        print(a)
    for target[(yield "index")] in rows:
        continue
