/** What a visitor got to see. */
export interface Visit {
  readonly url: string
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

/** Goes through a site as a browser does, without being one: keeps cookies and follows redirects. */
export interface Visitor {
  get(url: string): Promise<Visit>
  /** Posts as the page's script does. */
  post(url: string): Promise<Visit>
  /** Another one with the cookies of this moment: what this one gets or loses from now on, it does not. */
  twin(): Visitor
}

const MAX_REDIRECTS = 10

/** A visitor for sites of one host. Cookies know no ports, and no two here have the same name. */
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
