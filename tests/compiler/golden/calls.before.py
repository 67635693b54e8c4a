def calls(fetch, urls, log):
    pages = [fetch(url) for url in urls if url]
    log(len(pages), fetch(urls[0]))
    return fetch(pages)
