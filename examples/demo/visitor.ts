/** A response that a visitor got. */
export interface Visit {
  readonly url: string
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

/** A minimal browser: it keeps cookies and follows redirects. */
export interface Visitor {
  get(url: string): Promise<Visit>
  /** Posts as the page's script does. */
  post(url: string): Promise<Visit>
  /** Makes a copy with the current cookies; later changes of the cookies do not affect the copy. */
  twin(): Visitor
}

const MAX_REDIRECTS = 10

/** Makes a visitor for the sites of one host. Cookies are not bound to a port, so their names must differ. */
export function visitor(home: string, cookies = new Map<string, string>()): Visitor {
  async function visit(path: string, method: string): Promise<Visit> {
    let url = new URL(path, home)
    let answer = await ask(url, method)
    for (let redirects = 0; answer.headers.has('location'); redirects += 1) {
      if (redirects === MAX_REDIRECTS) throw new Error(`more than ${MAX_REDIRECTS} redirects from ${path}`)
      url = new URL(answer.headers.get('location') ?? '', url)
      await answer.body?.cancel()
      answer = await ask(url, 'GET')
    }
    const { status, headers } = answer
    return { url: url.href, status, headers, text: await answer.text() }
  }

  async function ask(url: URL, method: string): Promise<Response> {
    const cookie = [...cookies].map((pair) => pair.join('=')).join('; ')
    const headers = { cookie, ...(method === 'POST' && { 'X-Requested-With': 'fetch' }) }
    const answer = await fetch(url, { method, headers, redirect: 'manual' })
    for (const line of answer.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      if (value === '') cookies.delete(name)
      else cookies.set(name, value)
    }
    return answer
  }

  return {
    get: (url) => visit(url, 'GET'),
    post: (url) => visit(url, 'POST'),
    twin: () => visitor(home, new Map(cookies)),
  }
}
