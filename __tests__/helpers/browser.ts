/** What a browser got for a request. */
export interface BrowserAnswer {
  readonly url: string
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body as JSON; throws when it is none. */
  // biome-ignore lint/suspicious/noExplicitAny: a test knows what its own application answers.
  readonly json: any
}

/** What a request may bring besides its path. */
export interface BrowserRequest {
  readonly headers?: Record<string, string>
  /** Aborting it disconnects the client. */
  readonly signal?: AbortSignal
}

/** A minimal browser: it keeps cookies, follows no redirect unless told to, and asks in parallel. Tabs are calls. */
export interface Browser {
  get(path: string, request?: BrowserRequest): Promise<BrowserAnswer>
  /** Posts a `URLSearchParams` or a string as it is, everything else as JSON. */
  post(path: string, body?: unknown, request?: BrowserRequest): Promise<BrowserAnswer>
  /** Gets a page and follows its redirects, to other origins too, as a click on a link does. */
  visit(path: string, request?: BrowserRequest): Promise<BrowserAnswer>
  /** The value of a cookie, as it is sent to the base URL. */
  cookie(name: string): string | undefined
  setCookie(name: string, value: string): void
  /** Another browser with the cookies of this moment: what this one learns from now on, it does not. */
  clone(): Browser
}

const MAX_REDIRECTS = 20

/** A browser whose paths are relative to `baseUrl`. */
export function browser(baseUrl: string): Browser {
  return browserWith(baseUrl, new CookieJar())
}

function browserWith(baseUrl: string, jar: CookieJar): Browser {
  const ask = async (path: string, init: RequestInit): Promise<BrowserAnswer> => {
    const url = new URL(path, baseUrl)
    const headers = new Headers(init.headers)
    const cookies = jar.header(url)
    if (cookies !== '') headers.set('cookie', cookies)
    const response = await fetch(url, { ...init, headers, redirect: 'manual' })
    jar.take(url, response.headers.getSetCookie())
    return answer(url, response)
  }
  const get = (path: string, request: BrowserRequest = {}) => ask(path, request)
  const post = (path: string, body?: unknown, request: BrowserRequest = {}) =>
    ask(path, { ...request, method: 'POST', ...encoded(body, request.headers) })
  const visit = async (path: string, request: BrowserRequest = {}) => {
    let page = await get(path, request)
    for (let hops = 0; page.headers.has('location') && page.status < 400; hops += 1) {
      if (hops === MAX_REDIRECTS) throw new Error(`more than ${MAX_REDIRECTS} redirects from ${path}`)
      page = await get(new URL(page.headers.get('location') ?? '', page.url).href, request)
    }
    return page
  }
  return {
    get,
    post,
    visit,
    cookie: (name) => jar.get(new URL(baseUrl), name),
    setCookie: (name, value) => jar.take(new URL(baseUrl), [`${name}=${value}; Path=/`]),
    clone: () => browserWith(baseUrl, jar.clone()),
  }
}

async function answer(url: URL, response: Response): Promise<BrowserAnswer> {
  const text = await response.text()
  return {
    url: url.href,
    status: response.status,
    headers: response.headers,
    text,
    get json() {
      return JSON.parse(text)
    },
  }
}

function encoded(body: unknown, headers: Record<string, string> = {}): RequestInit {
  if (body === undefined) return { headers }
  if (typeof body === 'string' || body instanceof URLSearchParams) return { headers, body }
  return { headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) }
}

interface Cookie {
  readonly origin: string
  readonly path: string
  readonly name: string
  readonly value: string
}

/** Cookies by origin, path and name. Unlike a real browser it tells ports apart, because every test server is on 127.0.0.1. */
class CookieJar {
  #cookies: readonly Cookie[] = []

  header(url: URL): string {
    return this.#for(url)
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ')
  }

  get(url: URL, name: string): string | undefined {
    return this.#for(url).find((cookie) => cookie.name === name)?.value
  }

  take(url: URL, setCookies: readonly string[]): void {
    for (const setCookie of setCookies) {
      const { cookie, expired } = parsed(url, setCookie)
      const others = this.#cookies.filter((other) => !sameCookie(other, cookie))
      this.#cookies = expired ? others : [...others, cookie]
    }
  }

  clone(): CookieJar {
    const jar = new CookieJar()
    jar.#cookies = this.#cookies
    return jar
  }

  #for(url: URL): Cookie[] {
    return this.#cookies.filter((cookie) => cookie.origin === url.origin && covers(cookie.path, url.pathname))
  }
}

function parsed(url: URL, setCookie: string): { cookie: Cookie; expired: boolean } {
  const [pair = '', ...rest] = setCookie.split(';').map((part) => part.trim())
  const [name, value] = halves(pair)
  const attributes = new Map(
    rest.map((part) => {
      const [key, attribute] = halves(part)
      return [key.toLowerCase(), attribute]
    }),
  )
  const maxAge = attributes.get('max-age')
  const expires = attributes.get('expires')
  const expired = maxAge === undefined ? Date.parse(expires ?? '') <= Date.now() : Number(maxAge) <= 0
  return { cookie: { origin: url.origin, path: attributes.get('path') ?? '/', name, value }, expired }
}

function halves(text: string): [string, string] {
  const equals = text.indexOf('=')
  return equals === -1 ? [text, ''] : [text.slice(0, equals), text.slice(equals + 1)]
}

function sameCookie(a: Cookie, b: Cookie): boolean {
  return a.origin === b.origin && a.path === b.path && a.name === b.name
}

function covers(cookiePath: string, path: string): boolean {
  if (cookiePath === path || cookiePath === '/') return true
  return path.startsWith(cookiePath.endsWith('/') ? cookiePath : `${cookiePath}/`)
}
